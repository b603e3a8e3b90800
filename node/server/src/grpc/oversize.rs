//! What a client is told whose message is too long: RESOURCE_EXHAUSTED in the real server's words, where the gRPC library says
//! OUT_OF_RANGE in its own. Clients repeat neither, but people search for the words.
//!
//! Called by `grpc::serve`, for every response; looks at the headers alone.

use http::{HeaderMap, HeaderValue, Response};
use tonic::Code;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
/// As it stands in the header: spaces are escaped.
const LIBRARY_WORDS: &str = "Error,%20decoded%20message%20length%20too%20large:%20found%20";

/// The response with the words exchanged, if it is such a one.
pub fn reword<B>(mut response: Response<B>) -> Response<B> {
    if let Some((found, limit)) = too_long(response.headers()) {
        let words = format!("grpc:%20received%20message%20larger%20than%20max%20({found}%20vs.%20{limit})");
        if let Ok(words) = HeaderValue::from_str(&words) {
            let headers = response.headers_mut();
            headers.insert(STATUS, HeaderValue::from(Code::ResourceExhausted as i32));
            headers.insert(MESSAGE, words);
        }
    }
    response
}

/// Bytes of the message and the limit.
fn too_long(headers: &HeaderMap) -> Option<(u64, u64)> {
    let code: i32 = headers.get(STATUS)?.to_str().ok()?.parse().ok()?;
    if code != Code::OutOfRange as i32 {
        return None;
    }
    let rest = headers.get(MESSAGE)?.to_str().ok()?.strip_prefix(LIBRARY_WORDS)?;
    let (found, rest) = rest.split_once("%20bytes,%20the%20limit%20is:%20")?;
    let limit = rest.strip_suffix("%20bytes")?;
    Some((found.parse().ok()?, limit.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_that_is_too_long_is_reworded() {
        let status = |code: Code, words: &str| {
            let response: Response<()> = tonic::Status::new(code, words).into_http();
            let headers = reword(response).into_parts().0.headers;
            let text = |name: &str| headers[name].to_str().unwrap().replace("%20", " ");
            format!("{} {}", text(STATUS), text(MESSAGE))
        };
        let words = "Error, decoded message length too large: found 5000132 bytes, the limit is: 4194304 bytes";
        assert_eq!(status(Code::OutOfRange, words), "8 grpc: received message larger than max (5000132 vs. 4194304)");
        assert_eq!(status(Code::OutOfRange, "something else"), "11 something else");
        assert_eq!(status(Code::NotFound, words), format!("5 {words}"));
    }
}
