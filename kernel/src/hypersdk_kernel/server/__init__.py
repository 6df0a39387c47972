"""The daemon: the only place that knows all parts and puts them together.

    app        composition: store, hosting, engine, services, listeners; start and stop in order
    config     settings from file, environment and flags     statedir   the state directory and its lock
    methods    one wrapper around every method               validation constraints of the protos as field violations
    refusals   an error as a gRPC answer                      streams    long answers: counted, and ended on shutdown
    listeners  unix socket and TCP with TLS                  health, reflection   for generic clients
    telemetry  structured logs                               notify     readiness for systemd
"""
