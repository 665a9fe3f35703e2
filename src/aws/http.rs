//! The HTTP client under all AWS clients: HTTP/1.1 by hyper, TLS by rustls with ring.
//!
//! Smaller than the SDK's own, which brings HTTP/2 and proxies, and quicker to start: that one builds its TLS set-up
//! anew for every client and reads every certificate of the system twice, file by file and from the bundle.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::ErrorKind;
use http::{Request, Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, HttpConnector as Tcp, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};
use tower_service::Service;

/// How long a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long the connections that are opened before the first event may hold up the start, all together.
pub const OPEN_AHEAD_TIMEOUT: Duration = Duration::from_millis(250);

/// Where Amazon Linux and Debian keep all certificates that they trust in one file. A Lambda function runs on the first.
const BUNDLES: [&str; 2] = ["/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/certs/ca-certificates.crt"];

/// What names certificates to trust in place of the system's, as OpenSSL has it: a file, or folders of files.
const NAMED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// One client, whoever it is given to: they share its connections.
pub fn client() -> SharedHttpClient {
    let connections = Connections(Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(Connect));
    let connector = SharedHttpConnector::new(connections);
    http_client_fn(move |_, _| connector.clone())
}

/// The connections that are open, and the way to open more.
#[derive(Debug)]
struct Connections(Client<Connect, SdkBody>);

impl HttpConnector for Connections {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request: Request<SdkBody> = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let connection = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || metadata(&connection));
        }
        let answer = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(|error| failed(error.into()))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// What the SDK wants of a connection: to be able to say that it isn't to be used again, after a failure on it.
fn metadata(connection: &CaptureConnection) -> Option<ConnectionMetadata> {
    let proxied = connection.connection_metadata().as_ref()?.is_proxied();
    let connection = connection.clone();
    let poison = move || {
        if let Some(connected) = connection.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    Some(ConnectionMetadata::builder().proxied(proxied).poison_fn(poison).build())
}

/// The failure as the SDK's retries tell it apart: out of time, the connection, or something else.
fn failed(error: BoxError) -> ConnectorError {
    let causes = || {
        std::iter::successors(Some(&*error as &(dyn Error + 'static)), |cause: &&(dyn Error + 'static)| {
            (*cause).source()
        })
    };
    let of_hyper = || causes().filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    let connecting = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect())
    };
    if causes().any(|cause| cause.is::<Elapsed>()) || of_hyper().any(hyper::Error::is_timeout) {
        ConnectorError::timeout(error)
    } else if of_hyper().any(hyper::Error::is_user) {
        ConnectorError::user(error)
    } else if causes().any(|cause| connecting(cause) || cause.is::<std::io::Error>())
        || of_hyper().any(|error| error.is_closed() || error.is_canceled())
    {
        ConnectorError::io(error)
    } else {
        // The other side ended the connection in the middle of its answer, which another attempt may mend.
        let kind = of_hyper().any(hyper::Error::is_incomplete_message).then_some(ErrorKind::TransientError);
        ConnectorError::other(error, kind)
    }
}

/// Connections that were opened before there was a request for them, with the time; the first request takes each.
static AHEAD: Mutex<Vec<(Uri, Instant, Stream)>> = Mutex::new(Vec::new());

/// How long such a connection is worth trying; the other side may have closed it since.
const AHEAD_LASTS: Duration = Duration::from_secs(5);

/// Opens connections to these addresses, so many to each, and sends nothing. What can't be opened within
/// [`OPEN_AHEAD_TIMEOUT`] is left to the request that needs it, which will then say why.
///
/// Lambda gives a function a whole processor until it asks for its first event, and a fourteenth of one from then on (at
/// 128 MB): an alert's seven handshakes take far longer there.
pub async fn open_ahead(addresses: impl IntoIterator<Item = (Uri, usize)>) {
    let mut opening: JoinSet<_> = addresses
        .into_iter()
        .flat_map(|(address, count)| std::iter::repeat_n(address, count))
        .map(|address| async move { (address.clone(), open(address).await) })
        .collect();
    let opened = async {
        while let Some(opened) = opening.join_next().await {
            if let Ok((address, Ok(stream))) = opened {
                AHEAD.lock().unwrap_or_else(PoisonError::into_inner).push((address, Instant::now(), stream));
            }
        }
    };
    // Whatever isn't there by then is dropped, and ends with it.
    let _ = timeout(OPEN_AHEAD_TIMEOUT, opened).await;
}

/// A connection to this address that was opened ahead, if there is one.
fn opened_ahead(address: &Uri) -> Option<Stream> {
    let mut ahead = AHEAD.lock().unwrap_or_else(PoisonError::into_inner);
    ahead.retain(|(_, opened, _)| opened.elapsed() < AHEAD_LASTS);
    let same = |to: &Uri| to.scheme() == address.scheme() && to.authority() == address.authority();
    let at = ahead.iter().position(|(to, ..)| same(to))?;
    Some(ahead.swap_remove(at).2)
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Opens connections, or takes those that are open already.
#[derive(Clone)]
struct Connect;

impl Service<Uri> for Connect {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        Box::pin(async move {
            match opened_ahead(&address) {
                Some(stream) => Ok(stream),
                None => open(address).await,
            }
        })
    }
}

async fn open(address: Uri) -> Result<Stream, BoxError> {
    // The certificates are read only where they are needed.
    if address.scheme() == Some(&Scheme::HTTPS) {
        let mut tls = TLS.as_ref().map_err(Clone::clone)?.clone();
        timeout(CONNECT_TIMEOUT, tls.call(address)).await?
    } else {
        Ok(MaybeHttpsStream::Http(timeout(CONNECT_TIMEOUT, tcp().call(address)).await??))
    }
}

fn tcp() -> Tcp {
    let mut tcp = Tcp::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp
}

/// TLS for every connection of this process.
static TLS: LazyLock<Result<HttpsConnector<Tcp>, rustls::Error>> = LazyLock::new(|| {
    let named = NAMED.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(if named { &[] } else { &BUNDLES }))
        .with_no_client_auth();
    Ok(HttpsConnector::from((tcp(), config)))
});

/// The certificates that connections trust: those of the first of these files that has any; else what the environment
/// names, or all that the system has, which takes several times as long.
fn roots(bundles: &[&str]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for bundle in bundles {
        roots.add_parsable_certificates(load_certs_from_paths(Some(bundle.as_ref()), None).certs);
        if !roots.is_empty() {
            return roots;
        }
    }
    let found = load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::error!(errors = ?found.errors, "no certificate to trust was found, so no AWS service can be reached");
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bundle_that_has_certificates_is_enough() {
        let folder = std::env::temp_dir().join(format!("kms-key-guard-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let bundle = folder.join("bundle.pem");
        std::fs::write(&bundle, include_str!("../../tests/tls/amazon-root-ca-3.pem")).unwrap();
        let found = roots(&["/no/such/file", bundle.to_str().unwrap(), BUNDLES[1]]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn missing_unreadable_and_damaged_bundles_leave_the_system_s_certificates() {
        let all = roots(&[]).len();
        for useless in ["/no/such/file", "/proc", "/dev/null", "/etc/hostname", "/proc/self/mem"] {
            assert_eq!(roots(&[useless]).len(), all, "{useless}");
        }
    }
}
