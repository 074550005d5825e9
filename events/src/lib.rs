//! What happened: event types, the wire format and the Stream port.
