//! Uploading and downloading, streamed.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{Method, header};
use ruma::{MxcUri, OwnedMxcUri, api::client::authenticated_media::get_media_config, http_headers::ContentDisposition};
use serde::Deserialize;

use super::{Error, Intent};
use crate::matrix::{
    homeserver::content_type,
    media::{Content, Download, Upload, check, essence},
    path::encode,
};

/// Bytes that a type is recognised by.
const HEAD: usize = 16;

/// How a thumbnail is cut to its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Whether the picture may be cut (`crop`); otherwise all of it is shown (`scale`).
    pub crop: bool,
}

// === impl Intent ===

impl Intent {
    /// Uploads a file without holding it in memory. It is not repeated by itself: the bytes come only once.
    ///
    /// # Errors
    /// See [`Error`]: [`Error::TooLarge`] over the homeserver's limit or our own, [`Error::Source`] when the bytes
    /// cannot be had or are not as many as said, [`Error::Disguised`] when the type is not the declared one.
    pub async fn upload(&self, upload: Upload) -> Result<OwnedMxcUri, Error> {
        #[derive(Deserialize)]
        struct Answer {
            content_uri: OwnedMxcUri,
        }
        const PATH: &str = "/_matrix/media/v3/upload";
        self.register().await?;
        let limit = self.upload_limit().await?;
        if upload.size > limit {
            return Err(Error::TooLarge { what: "the file", limit });
        }
        let content_type = essence(&upload.content_type);
        let content = checked(upload.content, &content_type).await?;
        let problem = Arc::new(Mutex::new(None));
        let content = exactly(content, upload.size, Arc::clone(&problem));
        let mut query = self.identity("?");
        if let Some(name) = &upload.name {
            let separator = if query.is_empty() { '?' } else { '&' };
            query.push_str(&format!("{separator}filename={}", encode(name)));
        }
        let transport = self.homeserver.transport();
        let request = transport
            .request(Method::POST, &format!("{PATH}{query}"))
            .header(header::CONTENT_TYPE, content_type)
            .header(header::CONTENT_LENGTH, upload.size)
            .body(reqwest::Body::wrap_stream(content));
        let answered = transport.open(request, PATH).await;
        // What went wrong with the bytes says more than that the connection broke.
        if let Some(error) = problem.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let answer: Answer = answered?
            .json()
            .await
            .map_err(|error| Error::Answer { path: PATH.to_owned(), reason: error.without_url().to_string() })?;
        Ok(answer.content_uri)
    }

    /// The size of the largest file that can be uploaded, in bytes: the smaller of the homeserver's and our own limit.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn upload_limit(&self) -> Result<u64, Error> {
        let own = self.homeserver.settings().media_bytes;
        let theirs = u64::from(self.call(get_media_config::v1::Request::new()).await?.upload_size);
        Ok(own.min(theirs))
    }

    /// Downloads a file (authenticated media, Matrix 1.11) without holding it in memory.
    ///
    /// # Errors
    /// See [`Error`]: [`Error::TooLarge`] over our limit, [`Error::Disguised`] when the type is not the declared one.
    pub async fn download(&self, uri: &MxcUri) -> Result<Download, Error> {
        self.fetch("download", uri, "").await
    }

    /// Downloads a smaller picture of a file. Homeservers may answer with another size than was asked for.
    ///
    /// # Errors
    /// As [`Intent::download`].
    pub async fn thumbnail(&self, uri: &MxcUri, size: Thumbnail) -> Result<Download, Error> {
        let method = if size.crop { "crop" } else { "scale" };
        let query = format!("?width={}&height={}&method={method}&animated=false", size.width, size.height);
        self.fetch("thumbnail", uri, &query).await
    }

    async fn fetch(&self, verb: &str, uri: &MxcUri, query: &str) -> Result<Download, Error> {
        self.register().await?;
        let (server, id) = uri.parts().map_err(|error| Error::Request(format!("{uri}: {error}")))?;
        let path = format!("/_matrix/client/v1/media/{verb}/{}/{}", encode(server.as_str()), encode(id));
        let identity = self.identity(if query.is_empty() { "?" } else { "&" });
        let transport = self.homeserver.transport();
        let request = transport.request(Method::GET, &format!("{path}{query}{identity}"));
        let response = transport.open(request, &path).await?;
        let limit = self.homeserver.settings().media_bytes;
        let size = response.content_length();
        if size.is_some_and(|size| size > limit) {
            return Err(Error::TooLarge { what: "the file", limit });
        }
        let content_type = essence(content_type(&response).unwrap_or_default());
        let name = response.headers().get(header::CONTENT_DISPOSITION).and_then(|value| {
            let disposition: ContentDisposition = value.to_str().ok()?.parse().ok()?;
            disposition.filename
        });
        let url = self.homeserver.url().to_owned();
        let bytes = response.bytes_stream().map(move |chunk| {
            chunk.map_err(|error| Error::Unreachable { url: url.clone(), reason: error.without_url().to_string() })
        });
        let content = checked(at_most(bytes, limit).boxed(), &content_type).await?;
        Ok(Download { content_type, name, size, content })
    }

    /// The query parameter by which a ghost acts.
    fn identity(&self, separator: &str) -> String {
        if *self.user == *self.homeserver.bot_id() {
            return String::new();
        }
        format!("{separator}user_id={}", encode(self.user.as_str()))
    }
}

/// The same bytes, after their head was compared with the declared type.
async fn checked(mut content: Content, declared: &str) -> Result<Content, Error> {
    let mut head: Vec<Bytes> = Vec::new();
    while head.iter().map(Bytes::len).sum::<usize>() < HEAD {
        match content.next().await {
            Some(chunk) => head.push(chunk?),
            None => break,
        }
    }
    check(declared, &head.concat())?;
    Ok(stream::iter(head.into_iter().map(Ok)).chain(content).boxed())
}

/// The same bytes; an error instead of more than `limit` of them.
fn at_most(content: impl Stream<Item = Result<Bytes, Error>>, limit: u64) -> impl Stream<Item = Result<Bytes, Error>> {
    content.scan(0_u64, move |taken, chunk| {
        let chunk = chunk.and_then(|bytes| {
            *taken += bytes.len() as u64;
            if *taken > limit { Err(Error::TooLarge { what: "the file", limit }) } else { Ok(bytes) }
        });
        std::future::ready(Some(chunk))
    })
}

/// The same bytes; an error when they are not exactly so many. What goes wrong is put into `problem`, because HTTP
/// only says that the body broke off.
fn exactly(
    content: Content,
    size: u64,
    problem: Arc<Mutex<Option<Error>>>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let end = stream::iter([None]);
    content.map(Some).chain(end).scan((0_u64, false), move |(sent, over), chunk| {
        if *over {
            return std::future::ready(None);
        }
        let outcome = match chunk {
            Some(Ok(bytes)) if *sent + bytes.len() as u64 <= size => {
                *sent += bytes.len() as u64;
                return std::future::ready(Some(Ok(bytes)));
            }
            None if *sent == size => return std::future::ready(None),
            Some(Err(error)) => error,
            Some(Ok(_)) | None => Error::Source(format!("it does not have the {size} bytes that it should have")),
        };
        *over = true;
        *problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        std::future::ready(Some(Err(std::io::ErrorKind::InvalidData.into())))
    })
}
