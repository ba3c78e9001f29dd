//! The servers of the network answer, under their own certificates, and say where they are.

use futures_util::future::try_join_all;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    recorder::{Abandoned, Recorder, Trouble},
    target::{Reached, ReachedServer},
    tls,
};
use crate::lab::client::ClientError;

pub(super) async fn chapter(recorder: &mut Recorder, network: &Reached) -> Result<(), Abandoned> {
    recorder.chapter("The servers answer");
    let all = network.names().join(", ");
    recorder.step("Each server's certificate is from the network's authority", &all, certificates(network)).await?;
    recorder.step("Each server says which versions of Matrix it speaks", &all, versions(network)).await?;
    recorder.step("Each server says where other servers find it", &all, federation_address(network)).await?;
    recorder.step("Each server says where clients find it", &all, client_address(network)).await
}

async fn certificates(network: &Reached) -> Result<((), String), Trouble> {
    let trusting = tls::trusting(tls::roots(&network.roots_pem)?)?;
    let ends = try_join_all(network.servers.iter().map(async |server| {
        let connection = tls::connect(server, &trusting).await?;
        let chain = connection.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = chain.first().ok_or_else(|| Trouble::new("no certificate was shown").at(&server.public.name))?;
        let (_, leaf) = X509Certificate::from_der(leaf)?;
        Ok::<_, Trouble>(leaf.validity().not_after.to_datetime().date())
    }));
    let first = ends.await?.into_iter().min();
    Ok(((), first.map(|date| format!("chains verified, valid until {date} or later")).unwrap_or_default()))
}

async fn versions(network: &Reached) -> Result<((), String), Trouble> {
    let newest = try_join_all(network.servers.iter().map(async |server| {
        let path = ["_matrix", "client", "versions"];
        let answer = server.public.get(&path).await?;
        let versions = answer["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let newest = versions.last().and_then(serde_json::Value::as_str).map(str::to_owned);
        newest.ok_or_else(|| missing(server, &path, "a version"))
    }));
    let mut newest = newest.await?;
    newest.dedup();
    Ok(((), format!("up to {}", newest.join(", "))))
}

async fn federation_address(network: &Reached) -> Result<((), String), Trouble> {
    let path = [".well-known", "matrix", "server"];
    let places = try_join_all(network.servers.iter().map(async |server| {
        let answer = server.public.get(&path).await?;
        let place = answer["m.server"].as_str().map(str::to_owned);
        place.ok_or_else(|| missing(server, &path, "m.server"))
    }));
    Ok(((), places.await?.join(", ")))
}

async fn client_address(network: &Reached) -> Result<((), String), Trouble> {
    let path = [".well-known", "matrix", "client"];
    let addresses = try_join_all(network.servers.iter().map(async |server| {
        let answer = server.public.get(&path).await?;
        let address = answer["m.homeserver"]["base_url"].as_str().map(str::to_owned);
        address.ok_or_else(|| missing(server, &path, "m.homeserver.base_url"))
    }));
    Ok(((), addresses.await?.join(", ")))
}

fn missing(server: &ReachedServer, path: &[&str], what: &str) -> Trouble {
    let (path, what) = (path.join("/"), what.to_owned());
    Trouble::from(ClientError::Unexpected { path, what }).at(&server.public.name)
}
