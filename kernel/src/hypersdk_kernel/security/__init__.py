"""Who may come in, and what is kept private.

    tls       the generated CA and the server's certificate         private   files and folders only their owner may
    read tokens    the bearer token of TCP clients                       secrets   references in configurations, and
    their values authn     from a call's peer and metadata to an actor, or a refusal
"""
