//! Ingest, consume and replay: the shell that carries out what the fold decides.
