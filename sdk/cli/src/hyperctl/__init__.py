"""hyperctl: the HyperSDK command line.

    __main__     dispatch: `image …` without a daemon and without its imports, everything else through typer
    app          the typer application; commands/ holds a file a noun
    image/       the daemon-less image commands, argparse only
    session      what a command is given: settings, the client, where to print
    settings     flag > HYPERSDK_* > profile > file > default, and which it was
    exits        exit codes, decided there alone
    failures     how an error looks on a terminal
    output       table, wide, json, yaml, name;  messages: proto messages as plain values
    progress     one line of progress;  waiting: following a job until it ends
    endpoints    what SOURCE and TARGET of an export mean
    units        sizes, durations, rates;  pairs: key=value arguments and files of them

Data goes to stdout, talk to stderr. Nothing here knows a format, a platform or a storage.
"""
