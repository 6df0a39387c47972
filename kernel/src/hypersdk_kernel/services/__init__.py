"""One file for each proto service: proto ⇄ model, and nothing else.

A service is a `Service`: it names its descriptor and has a coroutine (or, for a stream, an async generator) for each
method, in snake_case, taking (request, Call). What it raises is of the error tree; server turns it into a status.
Beside the services:

    call      what a method knows of its call          values    timestamps, durations, JSON objects
    pages     page sizes and page tokens               status    an error as google.rpc.Status
    jobviews  Job, Attempt and Progress as messages    watch, logs   the two long streams of jobs
"""
