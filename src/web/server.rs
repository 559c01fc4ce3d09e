//! The listener: who may come, and how long each may take.
//!
//! A connection has 10 s for the head of a request (and between two requests), a request 15 s in all, and a reader who does not take the
//! answer is left after 10 s. There are at most 1,024 connections, and 20 from one address; a proxy that `[app] trusted_proxies` names may
//! have any number, and then each visitor it speaks for gets 20 requests at a time. Who is one too many is told 503 at once, and so
//! nobody waits behind them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::config::network::Network;

/// For the head of a request, and between two requests.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// For a request with its body, until it is answered. Work that was begun goes on.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// For a reader to take some of the answer.
const READER_LIMIT: Duration = Duration::from_secs(10);
/// Connections at a time.
const MOST_CONNECTIONS: usize = 1_024;
/// Connections of an address at a time, or requests of a visitor behind a proxy.
const MOST_OF_ONE: usize = 20;

/// What one too many is told. Nothing was read of what they want, so there is no page in their language.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n";

/// Answers on this listener until `stop` is asked for; then lets running requests end within `grace`.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    proxies: Vec<Network>,
    stop: CancellationToken,
    grace: Duration,
) {
    raise_file_limit();
    let house =
        Arc::new(House { service: TowerToHyperService::new(router), proxies, of_one: Seats::default() });
    let open = GracefulShutdown::new();
    // Cuts off who has not ended in time.
    let cut = CancellationToken::new();
    let _cuts = cut.clone().drop_guard();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Of one connection that is gone already, or of the system, which may have none to give just now.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
                {
                    tracing::warn!(error = %error.kind(), "a connection could not be accepted: {}", error.kind());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                continue;
            }
        };
        let address = peer.ip().to_canonical();
        let is_proxy = house.is_proxy(address);
        let seat = if is_proxy { None } else { house.of_one.take(address) };
        if open.count() >= MOST_CONNECTIONS || (seat.is_none() && !is_proxy) {
            // What does not fit into the socket's buffer at once is not worth waiting for.
            let _ = stream.try_write(TOO_MANY);
            continue;
        }
        // Without it, a page could wait for the network's delayed acknowledgement; failing to set it harms nothing.
        let _ = stream.set_nodelay(true);
        let visited = Arc::clone(&house);
        let service = service_fn(move |request| {
            let house = Arc::clone(&visited);
            async move { house.answer(request, is_proxy).await }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
        let connection = open.watch(builder.serve_connection(TokioIo::new(Patient::new(stream)), service));
        let cut = cut.clone();
        tokio::spawn(async move {
            // How a connection ended interests nobody: its requests have told what they had to.
            let _ = cut.run_until_cancelled(connection).await;
            drop(seat);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, open.shutdown()).await.is_err() {
        tracing::warn!("some requests had not ended {grace:?} after the stop");
    }
}

/// What all connections share.
struct House {
    service: TowerToHyperService<Router>,
    proxies: Vec<Network>,
    of_one: Seats,
}

impl House {
    async fn answer(
        &self,
        request: Request<Incoming>,
        through_proxy: bool,
    ) -> Result<Response<Body>, Infallible> {
        let visitor = if through_proxy { self.visitor(request.headers()) } else { None };
        let seat = visitor.map(|visitor| self.of_one.take(visitor));
        if matches!(seat, Some(None)) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
            return Ok(response);
        }
        self.service.call(request).await
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }

    /// Whom a proxy speaks for: each proxy adds who spoke to it at the end, so the last that is no proxy of ours is the visitor. What
    /// stands before it, the visitor may have written.
    fn visitor(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines: Vec<&str> =
            headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
        for one in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let address: IpAddr = one.trim().trim_matches(['[', ']']).parse().ok()?;
            if !self.is_proxy(address) {
                return Some(address.to_canonical());
            }
        }
        None
    }
}

/// How many of each address are here.
#[derive(Debug, Default, Clone)]
struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of [`MOST_OF_ONE`]; given back when it is dropped.
struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    fn take(&self, address: IpAddr) -> Option<Seat> {
        let address = household(address);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = taken.entry(address).or_default();
        if *n >= MOST_OF_ONE {
            return None;
        }
        *n += 1;
        Some(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.address) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(taken.remove(&self.address)),
        }
    }
}

/// An IPv6 connection has 2^64 addresses of its own; they are one.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

/// A connection takes a file, and many systems give a program 1,024 of them until it asks for more.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536).max(soft), hard)
    {
        tracing::warn!("the limit of open files stays at {soft}: {error}");
    }
}

/// A stream whose reader must not keep it waiting for ever.
struct Patient {
    stream: TcpStream,
    /// Runs while the reader takes nothing.
    limit: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream) -> Self {
        Self { stream, limit: None }
    }

    fn timed<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.limit = None;
            return written;
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(READER_LIMIT)));
        ready!(limit.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.timed(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_given_back() {
        let seats = Seats::default();
        let one: IpAddr = "2001:db8:0:1::7".parse().unwrap();
        let neighbour: IpAddr = "2001:db8:0:1::8".parse().unwrap();
        let mut taken: Vec<_> = (0..MOST_OF_ONE).map(|_| seats.take(one)).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(seats.take(neighbour).is_none());
        assert!(seats.take("2001:db8:0:2::7".parse().unwrap()).is_some());
        taken.pop();
        assert!(seats.take(neighbour).is_some());
        drop(taken);
        assert!(seats.0.lock().unwrap().is_empty());
    }

    #[test]
    fn the_visitor_behind_proxies() {
        let proxies = ["127.0.0.1", "10.0.0.0/8"].map(|text| text.parse().unwrap()).to_vec();
        let service = TowerToHyperService::new(Router::new());
        let house = House { service, proxies, of_one: Seats::default() };
        for (lines, visitor) in [
            (&["192.0.2.1"][..], Some("192.0.2.1")),
            (&["203.0.113.9, 192.0.2.1"], Some("192.0.2.1")),
            (&["203.0.113.9, 192.0.2.1, 10.1.1.1"], Some("192.0.2.1")),
            (&["203.0.113.9", "192.0.2.1"], Some("192.0.2.1")),
            (&["203.0.113.9, [2001:db8::1]"], Some("2001:db8::1")),
            (&["203.0.113.9, unknown"], None),
            (&["10.1.1.1"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            assert_eq!(house.visitor(&headers), visitor.map(|text| text.parse().unwrap()), "{lines:?}");
        }
    }
}
