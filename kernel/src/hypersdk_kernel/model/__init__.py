"""Values, names and state tables. Pure: no input or output, no clock but the one passed in."""
