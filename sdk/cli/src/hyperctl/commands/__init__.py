"""The commands that talk to a daemon, one file a noun; `image` is only an entry in the help here."""
