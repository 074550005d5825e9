//! What is deployed on AWS: one part per binary, a page each, calling the same functions as the program.
