//! What users of the network do, step by step, and what outsiders try; each step checked on the servers that must see
//! it. Runs against any network that a [`Target`] describes: the lab, virtual machines, a real installation.

mod care;
mod fhir;
mod impostor;
mod junit;
mod media;
mod outside;
mod people;
mod recorder;
mod relay;
mod report;
mod resources;
mod room;
mod servers;
mod stranger;
mod target;
mod tls;

pub use self::{
    recorder::{Narrator, Recorder, Silent, Step, Trouble, Verdict},
    report::{Report, Teller},
    target::{BridgeTarget, StrangerTarget, Target, TargetServer},
};

use self::{stranger::Stranger, target::Reached};

/// Plays the whole scenario. Steps that cannot be tried because an earlier one failed are left out of the report.
///
/// Call this on a current-thread runtime: it may start a homeserver, which the kernel ends with its thread.
///
/// # Errors
/// When the target's own files cannot be read; failing steps are no errors but stand in the report.
pub async fn play(target: &Target, narrator: impl Narrator + 'static) -> anyhow::Result<Report> {
    let mut recorder = Recorder::new(narrator);
    let reached = Reached::new(target)?;
    // It takes seconds to start, so it starts now and is needed last.
    let stranger = match &target.stranger {
        Some(asked) => Some(Stranger::start(asked, &reached).await),
        None => None,
    };

    let answering = servers::chapter(&mut recorder, &reached).await;
    if answering.is_ok()
        && let Ok(mut people) = people::chapter(&mut recorder, &reached).await
    {
        if let Ok(room) = room::chapter(&mut recorder, &mut people).await {
            _ = media::chapter(&mut recorder, &mut people).await;
            care::chapter(&mut recorder, &reached, &mut people).await;
            _ = outside::chapter(&mut recorder, &reached, &people, &room, stranger).await;
        }
        people::leave(&mut recorder, people).await;
    }
    Ok(recorder.finish(reached.names()))
}
