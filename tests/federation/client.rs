//! A user's client, on the plain address that browsers use.

use std::net::{Ipv4Addr, SocketAddr};

use care_federation::{
    lab::client::{Reach, Server, Session},
    service::{network::Network, secrets::Secret},
};

/// Runs asynchronous work to its end on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A server as a browser on this machine reaches it.
pub(crate) fn server(network: &Network, name: &str) -> Server {
    let port = network.proxy.client_port;
    let connect = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Server::new(name, &format!("http://{name}.localhost:{port}"), &Reach { roots: Vec::new(), connect }).unwrap()
}

/// Logs a user in, by its full id and the password as the lab printed it.
pub(crate) async fn log_in(network: &Network, user: &str, password: &str) -> Session {
    let (local, name) = user.trim_start_matches('@').split_once(':').unwrap();
    server(network, name).log_in(local, &Secret::new(password)).await.unwrap()
}
