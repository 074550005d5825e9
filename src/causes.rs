//! An error and what caused it, in one line, once: an error's own text does not name its source. Decides nothing but the colons.

use std::error::Error;

/// The error's text and those of its sources, outermost first. A text that stands in the line already is not said again.
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = inner.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("the file could not be read")]
        Silent(#[source] std::io::Error),
        #[error("the file could not be read: {0}")]
        Telling(#[source] std::io::Error),
    }

    #[test]
    fn every_cause_is_said_once() {
        let cause = || std::io::Error::other("the disk is gone");
        for error in [Failed::Silent(cause()), Failed::Telling(cause())] {
            assert_eq!(with_causes(&error), "the file could not be read: the disk is gone");
        }
    }
}
