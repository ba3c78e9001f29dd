//! What is outside stays outside: other authorities, other names, other servers, other protocols.

use std::{net::SocketAddr, time::Duration};

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    impostor::{Impostor, Reaction, RogueAuthority},
    people::{People, Person},
    recorder::{Recorder, Trouble},
    room::Room,
    stranger::{self, Stranger},
    target::{Reached, ReachedServer},
    tls,
};
use crate::lab::client::{ClientError, Session};

/// Time for an answer to what is not TLS.
const ANSWER_TIME: Duration = Duration::from_secs(15);

pub(super) async fn chapter(
    recorder: &mut Recorder,
    network: &Reached,
    people: &People,
    room: &Room,
    stranger: Option<anyhow::Result<Stranger>>,
) {
    recorder.chapter("What is outside stays outside");
    let all = network.names().join(", ");
    let host = network.servers.iter().find(|server| server.public.name == people.host.server());
    _ = recorder.step("A client that does not trust the authority goes away", &all, untrusting(network)).await;
    _ = recorder.step("Plain text on the TLS port gets an answer", &all, plain_text(network)).await;
    if let Some(host) = host {
        let who = host.public.name.clone();
        _ = recorder.step("A request in the name of no member is refused", &who, no_member(host, room)).await;
        let member = people.guests.first().map(Person::server).unwrap_or_default();
        _ = recorder.step("A request with a forged signature is refused", &who, forged(host, member, room)).await;
    }
    match network.egress {
        Some(egress) => {
            _ = recorder.step("Members reach nobody outside the network", "egress", egress_refuses(egress)).await;
        }
        None => recorder.skip("Members reach nobody outside the network", "the target names no egress"),
    }
    match stranger {
        Some(stranger) => with_stranger(recorder, people, room, stranger).await,
        None => recorder.skip("A homeserver outside the network is played", "the target names no stranger"),
    }
}

/// A client whose only root is another authority: the certificate must not satisfy it.
async fn untrusting(network: &Reached) -> Result<((), String), Trouble> {
    let elsewhere = tls::trusting(tls::roots(&RogueAuthority::new()?.pem())?)?;
    let mut how = String::new();
    for server in &network.servers {
        let host = rustls::pki_types::ServerName::try_from(server.host.clone())?;
        let stream = server.dial().await.map_err(|error| Trouble::from(error).at(&server.public.name))?;
        match timeout(tls::HANDSHAKE_TIME, elsewhere.connect(host, stream)).await {
            Ok(Err(error)) if error.to_string().contains("certificate") => how = error.to_string(),
            Ok(Err(error)) => return Err(Trouble::from(error).at(&server.public.name)),
            Ok(Ok(_)) => return Err(Trouble::new("the handshake succeeded").at(&server.public.name)),
            Err(_) => return Err(Trouble::new("the handshake hangs").at(&server.public.name)),
        }
    }
    Ok(((), how))
}

async fn plain_text(network: &Reached) -> Result<((), String), Trouble> {
    let mut answer = String::new();
    for server in &network.servers {
        let at = |trouble: Trouble| trouble.at(&server.public.name);
        let asked = async {
            let mut stream = server.dial().await?;
            let request = format!("GET /_matrix/client/versions HTTP/1.1\r\nHost: {}\r\n\r\n", server.host);
            stream.write_all(request.as_bytes()).await?;
            let mut bytes = vec![0; 256];
            let length = stream.read(&mut bytes).await?;
            bytes.truncate(length);
            std::io::Result::Ok(bytes)
        };
        let bytes =
            timeout(ANSWER_TIME, asked).await.map_err(|_| at(Trouble::new("no answer, the connection hangs")))?;
        answer = describe_answer(&bytes.map_err(|error| at(Trouble::from(error)))?).map_err(at)?;
    }
    Ok(((), answer))
}

/// A TLS alert record (RFC 8446 section 5.1: type 21) or the first line of an HTTP answer that is no success.
fn describe_answer(bytes: &[u8]) -> Result<String, Trouble> {
    if bytes.first() == Some(&21) {
        return Ok("a TLS alert".to_owned());
    }
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().unwrap_or_default();
    match line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 ")) {
        Some(status) if status.starts_with('4') => Ok(format!("“{status}”")),
        Some(status) => Err(Trouble::new(format!("the request was answered with “{status}”"))),
        None if bytes.is_empty() => Err(Trouble::new("the connection was closed without an answer")),
        None => Err(Trouble::new(format!("an answer that is neither TLS nor HTTP: {line:?}"))),
    }
}

/// A signed-looking request to a server's federation API.
async fn federation_request(server: &ReachedServer, origin: &str, room: &Room) -> Result<(u16, String), Trouble> {
    let path = ["_matrix", "federation", "v1", "query", "directory"];
    let signature = "A".repeat(86);
    let header = format!(
        "X-Matrix origin=\"{origin}\",destination=\"{}\",key=\"ed25519:lab\",sig=\"{signature}\"",
        server.public.name
    );
    let asked = server.public.ask(Method::GET, &path, |request| {
        request.query(&[("room_alias", &room.alias)]).header("Authorization", header)
    });
    match asked.await {
        Ok(_) => Err(Trouble::new("it was answered").at(&server.public.name)),
        Err(error) => match error.refusal() {
            Some((status, code)) => Ok((status, code.to_owned())),
            None => Err(error.into()),
        },
    }
}

async fn no_member(server: &ReachedServer, room: &Room) -> Result<((), String), Trouble> {
    match federation_request(server, stranger::NAME, room).await? {
        (403, code) if code == "M_FORBIDDEN" => Ok(((), "403 M_FORBIDDEN, it is not on the list".to_owned())),
        (status, code) => {
            Err(Trouble::new(format!("expected 403 M_FORBIDDEN, got {status} {code}")).at(&server.public.name))
        }
    }
}

async fn forged(server: &ReachedServer, member: &str, room: &Room) -> Result<((), String), Trouble> {
    match federation_request(server, member, room).await? {
        (401, code) => Ok(((), format!("401 {code}, {member} did not sign it"))),
        (status, code) => Err(Trouble::new(format!("expected 401, got {status} {code}")).at(&server.public.name)),
    }
}

/// Asks the egress for a listener of our own, by address and by a name of nobody's.
async fn egress_refuses(egress: SocketAddr) -> Result<((), String), Trouble> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let own = listener.local_addr()?.to_string();
    let mut said = String::new();
    for target in [own.as_str(), "stranger.invalid:8448", "stranger.invalid:443"] {
        let asked = async {
            let mut stream = TcpStream::connect(egress).await?;
            stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await?;
            let mut bytes = vec![0; 256];
            let length = stream.read(&mut bytes).await?;
            bytes.truncate(length);
            std::io::Result::Ok(bytes)
        };
        let bytes = timeout(ANSWER_TIME, asked).await.map_err(|_| Trouble::new("the egress does not answer"))??;
        said = describe_answer(&bytes)?;
        if !said.contains("403") {
            return Err(Trouble::new(format!("the way to {target} was refused with {said}, expected 403")));
        }
    }
    if timeout(Duration::ZERO, listener.accept()).await.is_ok() {
        return Err(Trouble::new("the egress connected to an address outside the network"));
    }
    Ok(((), format!("CONNECT is answered with {said}")))
}

async fn with_stranger(recorder: &mut Recorder, people: &People, room: &Room, stranger: anyhow::Result<Stranger>) {
    let starting = async {
        let mut stranger = stranger?;
        let session = stranger.session().await?;
        Ok(((stranger, session), "configured as a member, not on the list".to_owned()))
    };
    let name = "A homeserver outside the network starts";
    let Ok((mut stranger, session)) = recorder.step(name, stranger::NAME, starting).await else { return };
    let host = people.host.server();
    _ = recorder.step("Its user cannot join the room", host, cannot_join(&stranger, &session, room)).await;
    let name = "A homeserver with another authority's certificate is shunned";
    _ = recorder.step(name, "Synapse", shunned(&session, stranger::ROGUE, &mut stranger.rogue)).await;
    let name = "A homeserver with a certificate for another name is shunned";
    _ = recorder.step(name, "Synapse", shunned(&session, stranger::MISNAMED, &mut stranger.misnamed)).await;
    stranger.stop().await;
}

async fn join(session: &Session, alias: &str) -> Result<(), ClientError> {
    session.call(Method::POST, &["client", "v3", "join", alias], Some(json!({}))).await.map(|_| ())
}

/// The stranger reaches the network, and the network does not let it in.
async fn cannot_join(stranger: &Stranger, session: &Session, room: &Room) -> Result<((), String), Trouble> {
    match join(session, &room.alias).await {
        Ok(()) => Err(Trouble::new("the stranger joined the room")),
        Err(error) if error.refusal().is_none() => Err(error.into()),
        Err(_) if stranger.relay.tunnels() == 0 => Err(Trouble::new("the stranger never reached the network")),
        Err(error) if !stranger.was_forbidden() => {
            Err(Trouble::from(error).context("the stranger was refused, but not with 403"))
        }
        Err(_) => Ok(((), "its homeserver is answered with 403".to_owned())),
    }
}

/// Synapse connects to an impostor and, having seen its certificate, asks it nothing.
async fn shunned(session: &Session, name: &str, impostor: &mut Impostor) -> Result<((), String), Trouble> {
    match join(session, &format!("#room:{name}")).await {
        Ok(()) => return Err(Trouble::new(format!("a room of {name} was joined"))),
        Err(error) if error.refusal().is_none() => return Err(error.into()),
        Err(_) => {}
    }
    let reactions = impostor.reactions().await;
    if reactions.contains(&Reaction::Asked) {
        return Err(Trouble::new(format!("Synapse trusted {name} and sent it a request")));
    }
    match reactions.into_iter().next() {
        Some(Reaction::Left(how)) => Ok(((), how)),
        _ => Err(Trouble::new(format!("Synapse never reached {name}, so nothing is proved"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_alert_or_a_refusal() {
        assert_eq!(describe_answer(&[21, 3, 3, 0, 2, 2, 70]).unwrap(), "a TLS alert");
        assert_eq!(describe_answer(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap(), "“400 Bad Request”");
        assert!(describe_answer(b"").is_err());
        assert!(describe_answer(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(describe_answer(b"hello").is_err());
    }
}
