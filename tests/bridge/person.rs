//! Somebody with a Matrix client, in plain JSON: the tests check the bridge, not its own reading of the specification.

use reqwest::{Client, Method};
use serde_json::{Value, json};

/// Somebody with a Matrix client.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) http: Client,
    pub(crate) base: String,
    pub(crate) token: String,
    pub(crate) user_id: String,
}

// === impl Person ===

impl Person {
    /// A call of the client API that must succeed. `path` is what stands behind `/_matrix/client/`.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/_matrix/client/{path}", self.base);
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, None).await
    }

    /// What is there, if it is there.
    pub(crate) async fn try_get(&self, path: &str) -> Option<Value> {
        let url = format!("{}/_matrix/client/{path}", self.base);
        let response = self.http.get(url).bearer_auth(&self.token).send().await.ok()?;
        if response.status().is_success() { response.json().await.ok() } else { None }
    }

    /// Somebody who has a password.
    pub(crate) async fn log_in(http: &Client, base: &str, name: &str, password: &str) -> Self {
        let identifier = json!({ "type": "m.id.user", "user": name });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": password });
        let url = format!("{base}/_matrix/client/v3/login");
        let answer: Value = http.post(url).json(&body).send().await.unwrap().json().await.unwrap();
        Self {
            http: http.clone(),
            base: base.to_owned(),
            token: answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned(),
            user_id: answer["user_id"].as_str().unwrap().to_owned(),
        }
    }

    /// Posts, and says what came of it if it came to anything.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Option<Value> {
        let url = format!("{}/_matrix/client/{path}", self.base);
        let response = self.http.post(url).bearer_auth(&self.token).json(body).send().await.ok()?;
        if response.status().is_success() { response.json().await.ok() } else { None }
    }

    /// Puts, and says what came of it if it came to anything.
    pub(crate) async fn try_put(&self, path: &str, body: &Value) -> Option<Value> {
        let url = format!("{}/_matrix/client/{path}", self.base);
        let response = self.http.put(url).bearer_auth(&self.token).json(body).send().await.ok()?;
        if response.status().is_success() { response.json().await.ok() } else { None }
    }

    pub(crate) async fn join(&self, room: &str) {
        self.call(Method::POST, &format!("v3/join/{}", encode(room)), Some(json!({}))).await;
    }

    /// Sends an event and returns its id.
    pub(crate) async fn send(&self, room: &str, kind: &str, content: Value) -> String {
        let transaction: u128 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let path = format!("v3/rooms/{}/send/{kind}/{transaction}", encode(room));
        self.call(Method::PUT, &path, Some(content)).await["event_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn say(&self, room: &str, text: &str) -> String {
        self.send(room, "m.room.message", json!({ "msgtype": "m.text", "body": text })).await
    }

    pub(crate) async fn redact(&self, room: &str, event: &str) {
        let path = format!("v3/rooms/{}/redact/{}/1", encode(room), encode(event));
        self.call(Method::PUT, &path, Some(json!({}))).await;
    }

    pub(crate) async fn read(&self, room: &str, event: &str) {
        let path = format!("v3/rooms/{}/receipt/m.read/{}", encode(room), encode(event));
        self.call(Method::POST, &path, Some(json!({}))).await;
    }

    /// Everything that was said in a room, oldest first.
    pub(crate) async fn timeline(&self, room: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut from = String::new();
        loop {
            let page = self.get(&format!("v3/rooms/{}/messages?dir=b&limit=500{from}", encode(room))).await;
            let chunk = page["chunk"].as_array().cloned().unwrap_or_default();
            let done = chunk.is_empty();
            events.extend(chunk);
            match page["end"].as_str().filter(|_| !done) {
                Some(end) => from = format!("&from={}", encode(end)),
                None => break,
            }
        }
        events.reverse();
        events
    }

    /// The texts of a room's messages, oldest first.
    pub(crate) async fn texts(&self, room: &str) -> Vec<String> {
        let bodies = self.timeline(room).await.into_iter().filter(|event| event["type"] == "m.room.message");
        bodies.filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())).collect()
    }

    pub(crate) async fn state(&self, room: &str) -> Vec<Value> {
        self.get(&format!("v3/rooms/{}/state", encode(room))).await.as_array().cloned().unwrap()
    }
}

/// Text as it stands in a path.
pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded + &char::from(byte).to_string(),
        _ => encoded + &format!("%{byte:02X}"),
    })
}
