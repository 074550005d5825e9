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

/// The list of tokens cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAccess {
    /// No token: nobody could ask.
    #[error("no token is given: give at least one as TENANT=TOKEN")]
    Empty,
    /// Not a tenant's name.
    #[error(transparent)]
    Tenant(#[from] events::identity::BadName),
    /// It could be guessed, or not be sent.
    #[error("the token of tenant `{0}` is not at least {TOKEN_BYTES_MIN} visible ASCII characters")]
    Token(String),
    /// One token, two tenants.
    #[error("tenants `{0}` and `{1}` have the same token: a token names one tenant")]
    Shared(String, String),
}

impl Access {
    /// Access by tokens; a tenant may have several.
    pub fn tokens(pairs: Vec<(String, String)>) -> Result<Self, BadAccess> {
        if pairs.is_empty() {
            return Err(BadAccess::Empty);
        }
        let mut tokens: Vec<(Arc<str>, Box<[u8]>)> = vec![];
        for (tenant, token) in pairs {
            check_tenant(&tenant)?;
            if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(BadAccess::Token(tenant));
            }
            if let Some((other, _)) =
                tokens.iter().find(|(other, known)| **known == *token.as_bytes() && **other != *tenant)
            {
                return Err(BadAccess::Shared(other.to_string(), tenant));
            }
            tokens.push((tenant.into(), token.into_bytes().into()));
        }
        Ok(Self::Tokens(Tokens(tokens)))
    }

    /// The tenant of a request with this `Authorization` header; `None`: nobody's.
    pub(crate) fn tenant(&self, authorization: Option<&[u8]>) -> Option<Arc<str>> {
        match self {
            Self::Open => Some(LOCAL_TENANT.into()),
            Self::Tokens(tokens) => tokens.tenant(bearer(authorization?)?),
        }
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
