//! A command exits with status 0. The launcher runs it; this keeps who waits for which answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::ResourceName;
use tokio::sync::oneshot;

use crate::protocol::{Asked, Event, Request};

/// Answers with nothing where the command passed, else with what went wrong.
type Answer = oneshot::Sender<Result<(), String>>;

/// Asks the launcher. `Err` where it can't be asked now.
pub trait ExecAsker: Send + Sync {
    /// Sends one request.
    ///
    /// # Errors
    /// A sentence.
    fn ask(&self, request: &Request) -> Result<(), String>;
}

impl<F: Fn(&Request) -> Result<(), String> + Send + Sync> ExecAsker for F {
    fn ask(&self, request: &Request) -> Result<(), String> {
        self(request)
    }
}

/// The commands that are being waited for. The agent makes one of these, hands it to every
/// checker, and passes it every event of the launcher.
#[derive(Clone)]
pub struct ExecProbes {
    asker: Arc<dyn ExecAsker>,
    waiting: Arc<Mutex<BTreeMap<(ResourceName, u32), Answer>>>,
}

impl std::fmt::Debug for ExecProbes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExecProbes({} waiting)", self.lock().len())
    }
}

impl ExecProbes {
    /// Begins with nobody waiting.
    #[must_use]
    pub fn new(asker: Arc<dyn ExecAsker>) -> ExecProbes {
        ExecProbes { asker, waiting: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ResourceName, u32), Answer>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes notice of an event of the launcher.
    pub fn on_event(&self, event: &Event) {
        match event {
            Event::ProbeResult { resource, index, failure } => {
                let answer = failure.clone().map_or(Ok(()), Err);
                self.answer(&(resource.clone(), *index), answer);
            }
            Event::Refused { asked: Asked::ExecProbe, resource: Some(resource), why, .. } => {
                // The refusal does not say which; all of the resource's are asked anew later.
                let keys: Vec<_> =
                    self.lock().keys().filter(|(name, _)| name == resource).cloned().collect();
                for key in keys {
                    self.answer(&key, Err(format!("the launcher refused: {why}")));
                }
            }
            Event::Disconnected { reason } => {
                let waiting = std::mem::take(&mut *self.lock());
                for (_, answer) in waiting {
                    drop(answer.send(Err(format!("the launcher is gone: {reason}"))));
                }
            }
            _ => {}
        }
    }

    fn answer(&self, key: &(ResourceName, u32), with: Result<(), String>) {
        if let Some(answer) = self.lock().remove(key) {
            // Whoever asked may have given up meanwhile.
            drop(answer.send(with));
        }
    }

    /// Runs one check's command.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn probe(&self, resource: &ResourceName, index: u32) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let key = (resource.clone(), index);
        self.lock().insert(key.clone(), answer);
        let request = Request::ExecProbe { resource: resource.clone(), index };
        if let Err(error) = self.asker.ask(&request) {
            self.lock().remove(&key);
            return Err(error);
        }
        answered.await.unwrap_or_else(|_| Err("asked anew before it was answered".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(failure: Option<&str>) -> Event {
        let resource = ResourceName::new("x").unwrap();
        Event::ProbeResult { resource, index: 1, failure: failure.map(Into::into) }
    }

    #[tokio::test]
    async fn every_question_is_answered_once_also_by_a_lost_launcher() {
        let probes = ExecProbes::new(Arc::new(|_: &Request| Ok(())));
        let name = ResourceName::new("x").unwrap();
        let gone = Event::Disconnected { reason: "test".into() };
        for (event, passes) in [(result(None), true), (result(Some("no")), false), (gone, false)] {
            let (asking, name) = (probes.clone(), name.clone());
            let asked = tokio::spawn(async move { asking.probe(&name, 1).await });
            while probes.lock().is_empty() {
                tokio::task::yield_now().await;
            }
            probes.on_event(&event);
            assert_eq!(asked.await.unwrap().is_ok(), passes);
            probes.on_event(&event);
        }
        let deaf = ExecProbes::new(Arc::new(|_: &Request| Err("not connected".to_owned())));
        assert_eq!(deaf.probe(&name, 1).await, Err("not connected".into()));
        assert!(deaf.lock().is_empty());
    }
}
