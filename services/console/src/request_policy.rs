//! Which requests are answered at all: those that read, and those for a host that is the console's.

use hyper::{Method, Request, StatusCode, header};

/// Why a request is refused.
type RefusedRequest = (StatusCode, &'static str);

/// Checks method and host. A web page of another site can make a browser send requests to an
/// address that it names itself (DNS rebinding), and would then read the answers; such a request
/// names that site as its host.
pub fn check<B>(request: &Request<B>, hosts: &[String]) -> Result<(), RefusedRequest> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "the console only reads: GET and HEAD are allowed"));
    }
    let mut headers = request.headers().get_all(header::HOST).iter();
    let host = headers.next().and_then(|host| host.to_str().ok());
    match host {
        Some(host) if headers.next().is_none() && is_allowed(host, hosts) => Ok(()),
        _ => Err((
            StatusCode::MISDIRECTED_REQUEST,
            "the request is for a host that is none of this console's: start it with --host for another name",
        )),
    }
}

/// Whether a `Host` header, with a port or without, names the loopback interface or one of `hosts`.
fn is_allowed(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let is_name = |known: &str| known.eq_ignore_ascii_case(name);
    ["localhost", "127.0.0.1", "::1"].into_iter().any(is_name) || hosts.iter().any(|known| is_name(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, hosts: &[&str]) -> Option<StatusCode> {
        let mut request = Request::builder().method(method).uri("/");
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let known = ["console.example".to_owned(), "2001:db8::1".to_owned()];
        check(&request.body(()).unwrap(), &known).err().map(|(status, _)| status)
    }

    #[test]
    fn requests_are_answered_only_for_hosts_of_the_console() {
        for host in [
            "localhost",
            "LOCALHOST:8225",
            "127.0.0.1:8225",
            "[::1]:8225",
            "console.example:443",
            "[2001:db8::1]",
        ] {
            assert_eq!(status(Method::GET, &[host]), None, "{host}");
        }
        let refused = Some(StatusCode::MISDIRECTED_REQUEST);
        for host in
            ["evil.example", "localhost.evil.example", "evil.example:8225", "", "[::1", "127.0.0.2", "[::2]"]
        {
            assert_eq!(status(Method::GET, &[host]), refused, "{host}");
        }
        assert_eq!(status(Method::GET, &[]), refused);
        assert_eq!(status(Method::GET, &["localhost", "evil.example"]), refused);
    }

    #[test]
    fn requests_that_would_change_something_are_refused() {
        assert_eq!(status(Method::HEAD, &["localhost"]), None);
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::CONNECT] {
            assert_eq!(status(method, &["localhost"]), Some(StatusCode::METHOD_NOT_ALLOWED));
        }
    }
}
