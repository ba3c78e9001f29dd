//! A large file goes up on one server and comes down on the others, byte for byte.

use futures_util::future::try_join_all;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{
    people::People,
    recorder::{Abandoned, Recorder, Trouble},
};

/// Size of the file in bytes. It is random, so that nothing on the way can compress it.
const SIZE: usize = 10_000_000;

pub(super) async fn chapter(recorder: &mut Recorder, people: &mut People) -> Result<(), Abandoned> {
    recorder.chapter("Files");
    let (host, guests) = (people.host.server().to_owned(), people.guests_at());
    let mut content = vec![0; SIZE];
    let filled = SystemRandom::new().fill(&mut content).map_err(|_| Trouble::new("the system has no randomness"));
    let content = bytes::Bytes::from(content);
    let sent = content.clone();
    let upload = async {
        filled?;
        let address = people.host.session.upload(sent, "scan.bin").await?;
        Ok((address.clone(), address))
    };
    let address = recorder.step(format!("{host} uploads a file of 10 MB"), &host, upload).await?;
    let download = async {
        try_join_all(people.guests.iter().map(async |guest| {
            let received = guest.session.download(&address, SIZE).await?;
            if received == content {
                return Ok(());
            }
            let problem = format!("{} of {SIZE} bytes came, and they are not the same", received.len());
            Err(Trouble::new(problem).at(guest.server()))
        }))
        .await?;
        Ok(((), "every byte the same".to_owned()))
    };
    recorder.step("The others download it over federation", guests, download).await
}
