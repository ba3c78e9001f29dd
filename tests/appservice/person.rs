//! A person with an ordinary client: no code of ours between them and the homeserver.

use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::synapse::NAME;

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Person {
    pub(crate) id: String,
    base: String,
    token: String,
    client: reqwest::Client,
}

impl Person {
    /// A new account.
    pub(crate) async fn new(base: &str, name: &str) -> Self {
        let client = reqwest::Client::new();
        let localpart = format!("{name}{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let request = json!({ "username": localpart, "password": "geheim", "auth": { "type": "m.login.dummy" } });
        let response = client.post(format!("{base}/_matrix/client/v3/register")).json(&request).send().await.unwrap();
        let answer: Value = response.json().await.unwrap();
        let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        Self { id: format!("@{localpart}:{NAME}"), base: base.to_owned(), token, client }
    }

    pub(crate) fn user_id(&self) -> &ruma::UserId {
        <&ruma::UserId>::try_from(self.id.as_str()).unwrap()
    }

    /// Any call; status and body.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method.clone(), format!("{}{path}", self.base)).bearer_auth(&self.token);
        let request = if method == Method::GET { request } else { request.json(&body) };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// A call that must succeed.
    pub(crate) async fn must(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.must(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn join(&self, room: &ruma::RoomId) {
        self.must(Method::POST, &format!("/_matrix/client/v3/join/{room}"), json!({})).await;
    }

    pub(crate) async fn say(&self, room: &ruma::RoomId, text: &str) -> ruma::OwnedEventId {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{number}");
        let answer = self.must(Method::PUT, &path, json!({ "msgtype": "m.text", "body": text })).await;
        answer["event_id"].as_str().unwrap().try_into().unwrap()
    }

    pub(crate) async fn upload(&self, content_type: &str, bytes: Vec<u8>) -> String {
        let url = format!("{}/_matrix/media/v3/upload?filename=x", self.base);
        let request = self.client.post(url).bearer_auth(&self.token).header("content-type", content_type).body(bytes);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["content_uri"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub(crate) async fn download(&self, uri: &ruma::MxcUri) -> Vec<u8> {
        let (server, id) = uri.parts().unwrap();
        let url = format!("{}/_matrix/client/v1/media/download/{server}/{id}", self.base);
        let response = self.client.get(url).bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap().to_vec()
    }
}
