//! The laws of the Stream port: every adapter runs this suite.
