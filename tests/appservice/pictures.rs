//! Files both ways.

use care_federation::matrix::{
    Error,
    intent::{Outgoing, Thumbnail, content},
    media::Upload,
};

use crate::{
    synapse::UPLOAD_LIMIT,
    world::{transaction_id, world},
};

/// A grey picture of 40 × 30 pixels, as PNG: header, uncompressed pixels, end.
fn picture() -> Vec<u8> {
    let (width, height) = (40_u32, 30_u32);
    let row = [vec![0_u8], vec![128; width as usize]].concat();
    let pixels = row.repeat(height as usize);
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &pixels).unwrap();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", encoder.finish().unwrap()), (b"IEND", Vec::new())] {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(&data);
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(kind);
        png.extend(&data);
        png.extend(crc.sum().to_be_bytes());
    }
    png
}

#[tokio::test]
async fn a_picture_goes_to_a_person_and_back() {
    let world = world();
    let person = world.person("jan").await;
    let (room, ghost) = (world.room_with(&person).await, world.ghost("patient"));
    let picture = picture();
    let uri = ghost.upload(Upload::new("image/png", picture.clone()).named("wond é.png")).await.unwrap();
    let described = content::File {
        name: "wond é.png".to_owned(),
        content_type: "image/png".to_owned(),
        size: Some(picture.len() as u64),
        dimensions: Some((40, 30)),
    };
    let message = Outgoing::message(content::file(&uri, &described), &transaction_id());
    let event = ghost.send(&room, &message).await.unwrap();
    let seen = person.get(&format!("/_matrix/client/v3/rooms/{room}/event/{event}")).await;
    assert_eq!((&seen["content"]["msgtype"], &seen["content"]["url"]), (&"m.image".into(), &uri.as_str().into()));
    assert_eq!(person.download(&uri).await, picture);

    let back = world.bot().download(&uri).await.unwrap();
    assert_eq!((back.content_type.as_str(), back.name.as_deref()), ("image/png", Some("wond é.png")));
    assert_eq!(back.size, Some(picture.len() as u64));
    assert_eq!(back.bytes().await.unwrap(), picture);

    let size = Thumbnail { width: 16, height: 16, crop: true };
    let small = ghost.thumbnail(&uri, size).await.unwrap();
    assert!(small.content_type.starts_with("image/"));
    let small = small.bytes().await.unwrap();
    assert!(!small.is_empty() && small != picture);
}

#[tokio::test]
async fn a_persons_file_is_downloaded_and_a_disguised_one_is_not() {
    let world = world();
    let person = world.person("jan").await;
    let right = person.upload("application/pdf", b"%PDF-1.7 brief".to_vec()).await;
    let file = world.bot().download((&*right).into()).await.unwrap();
    assert_eq!(file.content_type, "application/pdf");
    assert_eq!(file.bytes().await.unwrap(), "%PDF-1.7 brief");
    let disguised = person.upload("image/png", b"MZ\x90\x00 program".to_vec()).await;
    assert!(matches!(world.bot().download((&*disguised).into()).await, Err(Error::Disguised { .. })));
    let missing = world.bot().download(ruma::mxc_uri!("mxc://zorg.test/bestaatniet")).await.err().unwrap();
    assert!(missing.is_not_found(), "{missing}");
}

#[tokio::test]
async fn the_homeservers_limit_is_known_before_anything_is_sent() {
    let bot = world().bot();
    assert_eq!(bot.upload_limit().await.unwrap(), UPLOAD_LIMIT);
    let large = vec![b' '; UPLOAD_LIMIT as usize + 1];
    let error = bot.upload(Upload::new("text/plain", large)).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: UPLOAD_LIMIT, .. }), "{error:?}");
}
