//! Threads that take messages apart side by side and give them back in order.
//!
//! The first message is done at once, without any thread: most runs have no second one.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use super::messages::Job;
use super::take::{Taken, Taker, Trouble};
use crate::error::{Error, Kind};

/// What became of one message.
pub(super) type Done = (String, Result<Option<Taken>, Trouble>);

/// How many messages may be on the way besides those in work; what they hold is open files, not memory.
const AHEAD: usize = 32;

pub(super) struct Pool<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    taker: &'env Taker<'env>,
    jobs: usize,
    threads: Option<Threads>,
    ready: BTreeMap<usize, Done>,
    submitted: usize,
    given: usize,
}

struct Threads {
    work: Sender<(usize, Job)>,
    done: Receiver<(usize, Done)>,
}

impl<'scope, 'env> Pool<'scope, 'env> {
    /// A pool of as many threads as the taker's options say, none of which is started yet.
    pub fn new(scope: &'scope Scope<'scope, 'env>, taker: &'env Taker<'env>) -> Self {
        Pool { scope, taker, jobs: 1, threads: None, ready: BTreeMap::new(), submitted: 0, given: 0 }
    }

    /// Hands a message over.
    pub fn submit(&mut self, job: Job) {
        let number = self.submitted;
        self.submitted += 1;
        if number == 1 {
            self.jobs = self.taker.options.threads();
        }
        if self.jobs <= 1 {
            self.ready.insert(number, take(self.taker, job));
            return;
        }
        let threads = self.threads.get_or_insert_with(|| start(self.scope, self.taker, self.jobs));
        if let Err(mpsc::SendError((number, job))) = threads.work.send((number, job)) {
            self.ready.insert(number, take(self.taker, job));
        }
    }

    /// The next message in order: what is done, or with `wait`, or where too many are on the way, what will be.
    pub fn next(&mut self, wait: bool) -> Option<Done> {
        loop {
            if let Some(done) = self.ready.remove(&self.given) {
                self.given += 1;
                return Some(done);
            }
            let ahead = self.submitted - self.given;
            let threads = self.threads.as_ref().filter(|_| ahead > 0)?;
            let (number, done) = match wait || ahead > self.jobs + AHEAD {
                true => threads.done.recv().ok()?,
                false => threads.done.try_recv().ok()?,
            };
            self.ready.insert(number, done);
        }
    }
}

fn start<'scope, 'env>(scope: &'scope Scope<'scope, 'env>, taker: &'env Taker<'env>, jobs: usize) -> Threads {
    let (work, queue) = mpsc::channel::<(usize, Job)>();
    let (give, done) = mpsc::channel();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..jobs {
        let (queue, give) = (queue.clone(), give.clone());
        scope.spawn(move || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((number, job)) = next else { return };
                if give.send((number, take(taker, job))).is_err() {
                    return;
                }
            }
        });
    }
    Threads { work, done }
}

/// A panic is a fault of ours and must not hang those who wait for this message.
fn take(taker: &Taker, job: Job) -> Done {
    let shown = job.shown.clone();
    let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| taker.take(job)));
    let taken = taken.unwrap_or_else(|_| {
        let doing = format!("cannot take {shown} apart");
        Err(Trouble::Message(Error::new(Kind::Internal, doing, "this is a fault of ours")))
    });
    (shown, taken)
}
