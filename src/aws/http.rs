//! The HTTP client under all AWS clients: the SDK's own, with rustls and ring.
//!
//! One connector is made at start and shared by all clients. The SDK's `build_https` would set TLS up anew for every client
//! and once more to validate it, reading every certificate of the system each time.

use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::byte_stream::ByteStream;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a connection may take. The connector keeps to it; a client's own time-outs are those of its operations.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long the connections that are opened before the first event may hold up the start, all together.
pub const OPEN_AHEAD_TIMEOUT: Duration = Duration::from_millis(250);

/// Where Amazon Linux and Debian keep all certificates that they trust in one file. A Lambda function runs on the first.
const BUNDLES: [&str; 2] = ["/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/certs/ca-certificates.crt"];

/// What names certificates to trust in place of the system's, as OpenSSL has it: a file, or folders of files.
const NAMED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What is asked for to open a connection: AWS's regional endpoints answer it without credentials.
const PING: &str = "/ping";

/// A connector with connections of its own, by the proxy that the environment names, if it names one.
pub fn connector() -> SharedHttpConnector {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let connector = Connector::builder()
        .connector_settings(settings)
        .proxy_config(ProxyConfig::from_env())
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context());
    SharedHttpConnector::new(connector.build())
}

/// A client whose users all share the connector's connections.
pub fn client(connector: &SharedHttpConnector) -> SharedHttpClient {
    let connector = connector.clone();
    http_client_fn(move |_, _| connector.clone())
}

/// Opens connections to these addresses, so many to each, by asking for nothing of consequence. Whatever comes of it costs
/// nothing: the request that needs a connection will open it, and say why it can't.
///
/// Lambda gives a function a whole processor until it asks for its first event, and a fourteenth of one from then on (at
/// 128 MB): an alert's seven handshakes take far longer there.
pub async fn open_ahead(connector: &SharedHttpConnector, addresses: impl IntoIterator<Item = (String, usize)>) {
    let mut opening: JoinSet<()> = addresses
        .into_iter()
        .flat_map(|(address, count)| std::iter::repeat_n(address, count))
        .map(|address| {
            let connector = connector.clone();
            async move {
                let mut request = HttpRequest::empty();
                if request.set_uri(format!("{}{PING}", address.trim_end_matches('/'))).is_ok()
                    && let Ok(answer) = connector.call(request).await
                {
                    // Read to its end: only then is the connection free for the next request.
                    let _ = ByteStream::new(answer.into_body()).collect().await;
                }
            }
        })
        .collect();
    let opened = async { while opening.join_next().await.is_some() {} };
    // Whatever isn't there by then is dropped, and ends with it.
    let _ = timeout(OPEN_AHEAD_TIMEOUT, opened).await;
}

fn context() -> TlsContext {
    let named = NAMED.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    // A trust store is all it is made of, so it can't fail; the default trusts what the system does.
    TlsContext::builder().with_trust_store(trust_store(if named { &[] } else { &BUNDLES })).build().unwrap_or_default()
}

/// Whom connections trust: the certificates of the first of these files that has any; else what the environment names, or
/// all that the system has, which takes several times as long.
fn trust_store(bundles: &[&str]) -> TrustStore {
    match first_that_has_any(bundles) {
        Some(pem) => TrustStore::empty().with_pem_certificate(pem),
        None => {
            if !bundles.is_empty() {
                tracing::warn!(looked_in = ?bundles, "no bundle of certificates to trust: reading the system's one by one");
            }
            TrustStore::default()
        }
    }
}

fn first_that_has_any(bundles: &[&str]) -> Option<String> {
    bundles.iter().map(|bundle| accepted(bundle)).find(|pem| !pem.is_empty())
}

/// The certificates of a file that rustls accepts, as they stand in it. The trust store panics on one that it can't read.
fn accepted(bundle: &str) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::fs::read(bundle).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let blocks = text.split_inclusive(END).filter_map(|block| block.get(block.rfind(BEGIN)?..));
    let mut store = RootCertStore::empty();
    let mut accepts = |block: &&str| {
        block.ends_with(END)
            && CertificateDer::from_pem_slice(block.as_bytes()).is_ok_and(|certificate| store.add(certificate).is_ok())
    };
    blocks.filter(|block| accepts(block)).flat_map(|block| [block, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A file with this text, below the system's temporary folder, removed when it is dropped.
    struct Bundle(std::path::PathBuf);

    impl Bundle {
        fn of(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kms-key-guard-{}-{name}.pem", std::process::id()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Bundle {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    const ONE: &str = include_str!("../../tests/tls/amazon-root-ca-3.pem");

    #[test]
    fn certificates_that_rustls_accepts_are_kept_and_damaged_ones_left_out() {
        let damaged = ONE.replacen("MII", "AAA", 1);
        let text =
            format!("# a bundle\n{ONE}\n{damaged}\n-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n{ONE}");
        let bundle = Bundle::of("damaged", &text);
        let kept = accepted(bundle.path());
        assert_eq!(kept.matches("BEGIN CERTIFICATE").count(), 2, "{kept}");
        // The store takes them without a panic.
        let context = TlsContext::builder().with_trust_store(trust_store(&["/no/such/file", bundle.path()])).build();
        let _ =
            Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context.unwrap()).build();
    }

    #[test]
    fn first_bundle_that_has_certificates_is_enough() {
        let bundle = Bundle::of("first", ONE);
        let found = first_that_has_any(&["/no/such/file", bundle.path(), BUNDLES[1]]).unwrap();
        assert_eq!(found.matches("BEGIN CERTIFICATE").count(), 1);
        assert_eq!(first_that_has_any(&["/no/such/file", "/dev/null"]), None);
    }

    #[test]
    fn missing_and_unreadable_bundles_hold_nothing() {
        for useless in ["/no/such/file", "/proc", "/dev/null", "/etc/hostname", "/proc/self/mem"] {
            assert_eq!(accepted(useless), "", "{useless}");
        }
        let cut = Bundle::of("cut", &ONE[..ONE.len() / 2]);
        assert_eq!(accepted(cut.path()), "");
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_reached_takes_no_longer_than_the_connector_allows() {
        // Documentation address (RFC 5737): nothing answers, or there is no way to it at all.
        let mut request = HttpRequest::empty();
        request.set_uri("https://192.0.2.1/").unwrap();
        let begun = Instant::now();
        assert!(connector().call(request).await.is_err());
        assert!(begun.elapsed() < CONNECT_TIMEOUT * 5);
    }

    #[tokio::test]
    async fn opening_ahead_ends_in_time_whatever_the_addresses_are() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", silent.local_addr().unwrap());
        let addresses = [address, "http://127.0.0.1:1".to_owned(), "not an address".to_owned()];
        let begun = Instant::now();
        open_ahead(&connector(), addresses.map(|address| (address, 2))).await;
        assert!(begun.elapsed() < OPEN_AHEAD_TIMEOUT * 8);
    }
}
