"""Events on their way to those who watch (the bus) and to those who are told (delivery, a courier a subscription).
The log they come from is store.events."""
