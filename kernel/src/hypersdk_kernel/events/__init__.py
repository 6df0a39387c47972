"""Events on their way to those who watch: the bus. The log they come from is store.events."""
