//! Who a request speaks for. Decides the tenant from the credential and from nothing else.

use std::sync::Arc;

use events::identity::{LOCAL_TENANT, check_tenant};
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// Shortest token: 16 characters of a random alphabet cannot be guessed at the rate that the throttle leaves.
pub const TOKEN_BYTES_MIN: usize = 16;

/// Who may ask.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everyone who reaches the socket, as tenant `local`: for loopback only.
    Open,
    /// Who shows a token; made by [`Access::tokens`].
    Tokens(Tokens),
}

/// Tenants and their tokens, checked.
#[derive(Clone)]
pub struct Tokens(Vec<(Arc<str>, Box<[u8]>)>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenants: Vec<_> = self.0.iter().map(|(tenant, _)| tenant).collect();
        write!(f, "Tokens of {tenants:?}")
    }
}

/// The list of tokens cannot be used. Nothing of a line is ever shown: whoever swaps its two words has the secret where the name should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAccess {
    /// No token: nobody could ask.
    #[error("it holds no token: write a line `TENANT TOKEN` for each credential")]
    Empty,
    /// One word, or more than two.
    #[error("line {0} is not `TENANT TOKEN`, two words with a space between")]
    Words(usize),
    /// Not a tenant's name.
    #[error("line {0}: the first word is no tenant's name, which is 1 to 64 of a-z A-Z 0-9 - _ .")]
    Tenant(usize),
    /// It could be guessed, or not be sent.
    #[error(
        "line {0}: the token, which is the second word, is not at least {TOKEN_BYTES_MIN} visible ASCII characters; `openssl rand -hex 16` makes one"
    )]
    Token(usize),
    /// One token twice: of two tenants it names none, and of one it was meant to be another.
    #[error("lines {0} and {1} have the same token: leave one, and give the other a token of its own")]
    Twice(usize, usize),
}

impl Access {
    /// Access by tokens: a line `TENANT TOKEN` for each; a tenant may have several. Empty lines and those that begin with # say nothing.
    pub fn tokens(text: &str) -> Result<Self, BadAccess> {
        let mut tokens: Vec<(Arc<str>, Box<[u8]>)> = vec![];
        let mut places = vec![];
        let lines = (1..).zip(text.trim_start_matches('\u{feff}').lines().map(str::trim));
        for (line, text) in lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
            let words: Vec<&str> = text.split_whitespace().collect();
            let [tenant, token] = words[..] else { return Err(BadAccess::Words(line)) };
            check_tenant(tenant).map_err(|_| BadAccess::Tenant(line))?;
            if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(BadAccess::Token(line));
            }
            if let Some(place) = tokens.iter().position(|(_, known)| **known == *token.as_bytes()) {
                return Err(BadAccess::Twice(places[place], line));
            }
            places.push(line);
            tokens.push((tenant.into(), token.as_bytes().into()));
        }
        if tokens.is_empty() { Err(BadAccess::Empty) } else { Ok(Self::Tokens(Tokens(tokens))) }
    }

    /// The tenant of a request with this `Authorization` header; `None`: nobody's.
    pub(crate) fn tenant(&self, authorization: Option<&[u8]>) -> Option<Arc<str>> {
        match self {
            Self::Open => Some(LOCAL_TENANT.into()),
            Self::Tokens(tokens) => tokens.tenant(bearer(authorization?)?),
        }
    }

    /// True for those who run the server: everybody where it is open, else tenant `local`.
    pub(crate) fn sees_all(&self, tenant: Option<&str>) -> bool {
        matches!(self, Self::Open) || tenant == Some(LOCAL_TENANT)
    }
}

impl Tokens {
    /// Looks at every token, whichever fits, so that the time taken tells nothing but a length.
    fn tenant(&self, token: &[u8]) -> Option<Arc<str>> {
        let mut found = u32::MAX;
        for (i, (_, known)) in (0u32..).zip(&self.0) {
            found = u32::conditional_select(&found, &i, known.ct_eq(token));
        }
        self.0.get(found as usize).map(|(tenant, _)| tenant.clone())
    }
}

/// The token of `Bearer TOKEN` (RFC 6750, section 2.1; the scheme in any case).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}
