//! The laws of the Store port: every adapter runs this suite.
