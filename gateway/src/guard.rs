//! Who may call: whoever shows a token, where tokens are asked for.

use hyper::Request;
use hyper::header::{AUTHORIZATION, HeaderMap};
use remotemedia_core::token::{Token, TokenEntry};
use remotemedia_core::transport::{Caller, ConnectionId};
use tracing::Span;

use crate::rescue;
use crate::rpc::Rpc;
use crate::step::{Answer, Step};
use crate::tokens::{TokenFile, TokenWatch};

/// Lets in who shows a token. Without tokens to compare with, everybody: then only this machine reaches the door.
#[derive(Clone, Debug)]
pub struct Guard(Option<TokenWatch>);

// === impl Guard ===

impl Guard {
    /// Lets in who shows one of these.
    #[must_use]
    pub fn of(tokens: Option<&TokenFile>) -> Self {
        Self(tokens.map(TokenFile::watch))
    }

    /// Whose token is shown, where tokens are asked for; or what is wrong with it.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Option<TokenEntry>, &'static str> {
        const UNKNOWN: &str = "the bearer token is not known here: ask the operator for one";
        let Some(tokens) = &self.0 else { return Ok(None) };
        let token = shown(headers)?;
        tokens.tokens().owner(&token).cloned().map(Some).ok_or(UNKNOWN)
    }
}

/// Whether what a caller sends is kept nowhere. Not so where nobody says who calls.
#[derive(Clone, Copy, Debug, Default)]
struct Privacy(bool);

impl Step for Guard {
    fn pass<B>(&self, mut request: Request<B>, next: impl FnOnce(Request<B>) -> Answer) -> Answer {
        // Probes of orchestrators cannot send metadata, and learn one bit.
        let is_open = Rpc::of(request.uri().path()) == Rpc::HealthV1Check;
        if is_open {
            return next(request);
        }
        match self.check(request.headers()) {
            Ok(owner) => {
                if let Some(TokenEntry { name, private, .. }) = owner {
                    Span::current().record("client", name.to_string());
                    request.extensions_mut().insert(Privacy(private));
                }
                next(request)
            }
            Err(problem) => Box::pin(async move { Ok(rescue::of_stranger(problem).into_http()) }),
        }
    }
}

/// Who sends a request.
pub(crate) fn caller_of<T>(request: &tonic::Request<T>) -> Caller {
    let known = request.extensions();
    let Privacy(private) = known.get().copied().unwrap_or_default();
    Caller { private, connection: known.get::<ConnectionId>().copied() }
}

/// The token in a call's metadata, or what is wrong with it.
fn shown(headers: &HeaderMap) -> Result<Token, &'static str> {
    const MISSING: &str = "the call has no bearer token: send the metadata 'authorization: Bearer TOKEN'";
    const MALFORMED: &str =
        "the call's authorization is no bearer token: send the metadata 'authorization: Bearer TOKEN' once";
    let mut shown = headers.get_all(AUTHORIZATION).into_iter();
    let (Some(first), None) = (shown.next(), shown.next()) else {
        return Err(if headers.contains_key(AUTHORIZATION) { MALFORMED } else { MISSING });
    };
    let (scheme, token) = first.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(MALFORMED)?;
    // RFC 7235: schemes are of any case.
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(MALFORMED);
    }
    Ok(Token::shown(token.trim()))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_taken_from_one_authorization_of_the_bearer_scheme() {
        let check = |lines: &[&str], expect: Result<&str, &str>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
            }
            match (shown(&headers), expect) {
                (Ok(token), Ok(expect)) => assert_eq!(token.secret(), expect),
                (Err(problem), Err(expect)) => assert!(problem.contains(expect), "{lines:?}: {problem}"),
                (found, _) => panic!("{lines:?}: {found:?}"),
            }
        };
        check(&["Bearer abc"], Ok("abc"));
        check(&["bearer  abc "], Ok("abc"));
        check(&[], Err("has no bearer token"));
        check(&["abc"], Err("is no bearer token"));
        check(&["Basic abc"], Err("is no bearer token"));
        check(&["Bearer "], Err("is no bearer token"));
        check(&["Bearer a", "Bearer b"], Err("is no bearer token"));
    }
}
