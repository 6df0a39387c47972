"""The HyperSDK kernel: a router and a clock.

It knows jobs, plugin generations, connections, events and identities. It does not know what a machine, a disk, an
object or a
price is: plugins do. It imports no plugin, no `hypersdk.data`, and never forks. Floors, from the top:

    server    the composition root: configuration, listeners, one wrapper around every method, shutdown
    services  one file for each proto service: proto ⇄ model, nothing else
    engine    jobs: queue, dispatcher, runners, reconciliation; connections
    hosting   plugins: discovery, hosts, supervision, routing      security  TLS, tokens, secrets      events  the bus
    store     SQL: tables, migrations, one writer with group commit
    model     pure values, names, the state tables
"""

__version__ = "0.1.0"
