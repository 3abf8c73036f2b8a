//! A session's life as a state machine: what is answered, in which order, and when it is over. No I/O, no clock.
