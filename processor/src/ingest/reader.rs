//! The reading thread: one input after the other, read and packed. Decides the order; waits where the sends are behind.

mod pour;
mod told;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use self::pour::{Pour, Taken};
pub(super) use self::told::{Message, Noted, Place};
use super::{
    FileError, Options, Progress, ReaderList,
    input::Raw,
    list::{EntryId, Mark, Seen},
    object::{Announced, Object, ObjectId},
    paths::{Finder, Found, Kind, spelt},
    recognise::{Next, Question, stamp},
    service_of,
    source::{Passed, Source, open_file},
};
use events::{
    identity::{ORIGIN_NAME_BYTES_MAX, Origin, OriginKind},
    pack::{Identity, Packer, Source as Speaks},
};
use tokio::sync::mpsc;

/// Messages of small files wait for each other, so that one sync of the list does for all of them: at most so many, and at most so many bytes.
const HELD_MAX: usize = 512;
const HELD_BYTES_MAX: usize = 1 << 20;

/// See the module.
pub(super) struct Reader {
    pub options: Options,
    /// None: there are neither files nor pipes.
    pub list: Option<Arc<ReaderList>>,
    pub progress: Arc<Progress>,
    pub messages: mpsc::Sender<Vec<Message>>,
    /// Nothing more can be sent.
    pub stop: Arc<AtomicBool>,
    /// The last input of which a batch was refused, plus one.
    pub broken: Arc<AtomicU64>,
    pub stdin: Option<Box<dyn Read + Send>>,
    /// What is told once the list is durable.
    pub held: Vec<Message>,
    pub held_bytes: usize,
}

impl Reader {
    pub(super) fn run(mut self, paths: &[PathBuf], objects: Option<mpsc::Receiver<Announced>>) {
        let finder = Finder::find(paths);
        let count = finder.found.len();
        self.progress.files_total.fetch_add(count as u64, Relaxed);
        let sizes = finder.found.iter().map(|found| if let Kind::File(_, len) = found.kind { len } else { 0 });
        self.progress.disk_bytes_total.fetch_add(sizes.sum(), Relaxed);
        let named = finder.found.iter().map(|found| found.path.clone()).collect();
        let mut told = self.tell(Message::Found(named));
        for warning in finder.warnings {
            told = told.and_then(|()| self.tell(Message::Warning(warning)));
        }
        for (file, found) in finder.found.into_iter().enumerate() {
            if told.is_err() || self.stop.load(Relaxed) {
                return;
            }
            let mut entry = None;
            let outcome = self.read_one(file, found, count, &mut entry);
            told = self.tell(Message::Done { file, place: entry.map(Place::File), outcome });
        }
        if let Some(objects) = objects {
            told = told.and_then(|()| self.read_objects(count, objects));
        }
        // An error has nobody to hear it.
        let _ = told.and_then(|()| self.tell_held());
    }

    fn read_objects(&mut self, mut file: usize, mut objects: mpsc::Receiver<Announced>) -> Result<(), FileError> {
        // Opening the next may take long: nothing waits for it.
        self.tell_held()?;
        while let Some(announced) = objects.blocking_recv() {
            if self.stop.load(Relaxed) {
                return Ok(());
            }
            match announced {
                Announced::Known { objects, bytes } => {
                    self.progress.files_done.fetch_add(objects, Relaxed);
                    self.progress.disk_bytes_read.fetch_add(bytes, Relaxed);
                    self.tell(Message::Known(objects))?;
                }
                Announced::One { name, id, tag, opened } => {
                    let object = opened.as_ref().ok();
                    let origin = object.filter(|_| tag.is_some()).map(|object| object.origin.clone());
                    let durable = object.and_then(|object| object.durable.clone());
                    self.tell(Message::FoundObject { path: name.clone().into(), tag, origin, durable })?;
                    let outcome = opened.and_then(|object| self.read_object(file, Path::new(&name), id, object));
                    self.tell(Message::Done { file, place: id.map(Place::Object), outcome })?;
                    file += 1;
                }
            }
        }
        Ok(())
    }

    fn read_object(
        &mut self,
        file: usize,
        path: &Path,
        id: Option<ObjectId>,
        object: Object,
    ) -> Result<bool, FileError> {
        let mut source = Source::new(Raw::Object(object.bytes), Some(self.progress.clone()))?;
        let from = match (id, &self.list, &object.durable) {
            (_, _, Some(durable)) => durable.load(Relaxed),
            (Some(id), Some(list), None) => list.object_end(id),
            _ => 0,
        };
        let mut passed = Passed::default();
        if source.is_packed() && from > 0 {
            // What is packed is unpacked from its first byte on, and none of it is sent.
            passed.hash = Some(Box::default());
        }
        if from > 0 && !source.skip_to(from, &mut passed)? {
            return Ok(true);
        }
        let identity = Identity::Origin { origin: object.origin, from };
        let mut pour = self.plain(file, path, source, identity, object.taken_at_ms);
        pour.packer.remember(&passed.before);
        pour.place = id.map(Place::Object);
        // An object of nothing is read, and holds nothing.
        self.pour(pour).0.map(|_| true)
    }

    /// Tells it, or holds it until the list is durable.
    fn tell(&mut self, message: Message) -> Result<(), FileError> {
        if let Message::Batch { packed, .. } = &message {
            self.held_bytes += packed.data.len();
        }
        self.held.push(message);
        let enough = self.held.len() >= HELD_MAX || self.held_bytes >= HELD_BYTES_MAX;
        let waits = self.list.as_ref().is_some_and(|list| list.has_unsynced_names());
        if enough || !waits { self.tell_held() } else { Ok(()) }
    }

    /// Waits until the sends are near enough; an error: nobody listens any more, or nothing may be sent.
    fn tell_held(&mut self) -> Result<(), FileError> {
        self.held_bytes = 0;
        if let Some(Err(error)) = self.list.as_ref().map(|list| list.sync_named()) {
            // No byte of these files may leave; the report names them as not read.
            self.held.clear();
            // Where nobody listens, nothing is left to stop.
            let _ = self.messages.blocking_send(vec![Message::Warning(error.to_string())]);
            self.stop.store(true, Relaxed);
            return Err(error.into());
        }
        if self.held.is_empty() {
            return Ok(());
        }
        self.messages.blocking_send(std::mem::take(&mut self.held)).map_err(|_| FileError::NotRead)
    }

    fn read_one(
        &mut self,
        file: usize,
        found: Found,
        count: usize,
        entry: &mut Option<EntryId>,
    ) -> Result<bool, FileError> {
        let path = found.path.as_path();
        if let Some(name) = self.options.as_name.clone() {
            return self.read_named(file, found, count, name);
        }
        match found.kind {
            Kind::Failed(error) => Err(error),
            Kind::File(real, _) => self.read_file(file, path, &real, entry),
            Kind::Stdin | Kind::Pipe => {
                let source = self.open_pipe(&found)?;
                let producer = self.list()?.new_producer()?;
                self.pour(self.plain(file, path, source, Identity::Producer(producer), self.options.now_ms)).0
            }
        }
    }

    /// The name alone is the identity, so the whole input is read, and the fold knows what it has.
    fn read_named(&mut self, file: usize, found: Found, count: usize, name: String) -> Result<bool, FileError> {
        if count > 1 {
            return Err(FileError::AsOne(count));
        }
        if name.is_empty() || name.len() > ORIGIN_NAME_BYTES_MAX || name.contains('\0') {
            return Err(FileError::AsName);
        }
        let source = match found.kind {
            Kind::Failed(error) => return Err(error),
            Kind::File(ref real, _) => Source::open(real, Some(self.progress.clone()))?,
            Kind::Stdin | Kind::Pipe => self.open_pipe(&found)?,
        };
        let origin = Origin { kind: OriginKind::Named, name, version: String::new() };
        let identity = Identity::Origin { origin, from: 0 };
        self.pour(self.plain(file, &found.path, source, identity, self.options.now_ms)).0
    }

    fn list(&self) -> Result<Arc<ReaderList>, FileError> {
        self.list.clone().ok_or(FileError::NotRead)
    }

    /// A pipe may be silent for long: nothing waits for it.
    fn open_pipe(&mut self, found: &Found) -> Result<Source, FileError> {
        self.tell_held()?;
        let pipe = match found.kind {
            Kind::Stdin => self.stdin.take().ok_or(FileError::NotFound)?,
            _ => Box::new(File::open(&found.path).map_err(FileError::Open)?),
        };
        Source::new(Raw::Pipe(pipe), Some(self.progress.clone()))
    }

    fn read_file(
        &mut self,
        file: usize,
        path: &Path,
        real: &Path,
        entry: &mut Option<EntryId>,
    ) -> Result<bool, FileError> {
        let path_text =
            &spelt(real).filter(|text| text.len() <= ORIGIN_NAME_BYTES_MAX).ok_or(FileError::NameTooLong)?;
        let list = self.list()?;
        let opened = open_file(real)?;
        let question = Question {
            list: &list,
            file: &opened,
            tenant: &self.options.tenant,
            path: real,
            path_text,
            again: self.options.again,
            now_ms: self.options.now_ms,
            progress: &self.progress,
        };
        // An empty file is read, and holds nothing.
        let Some(mut known) = question.answer()? else { return Ok(true) };
        *entry = Some(known.entry.id);
        if let Some(warning) = known.warning.take() {
            self.tell(Message::Warning(warning))?;
        }
        let mut from = known.from;
        let unfinished = known.passed.before.last().is_some_and(|last| *last != b'\n');
        let mut first = None;
        match known.next {
            Next::End => {
                see(&list, &opened, known.entry.id, known.entry.mark);
                return Ok(false);
            }
            // The last line lacked its newline when it was taken, and was counted: this only ends it. Anything else is a line of its own.
            Next::Byte(b'\n') if unfinished => {
                from += 1;
                known.passed.before.push(b'\n');
                let mut mark = Mark::after(from, &known.passed.before);
                if let Some(hash) = &mut known.passed.hash {
                    hash.update(b"\n");
                    mark.whole = Some(hash.digest128());
                }
                list.advance(known.entry.id, mark)?;
            }
            Next::Byte(byte) => first = Some(byte),
            Next::Unread => {}
        }
        let identity = Identity::Origin { origin: list.origin(&known.entry), from };
        let read_at_ms = known.entry.reading_since_ms.unwrap_or(self.options.now_ms);
        let Passed { before, hash } = known.passed;
        let taken = known.source.is_packed().then(|| Taken {
            hash: hash.unwrap_or_default(),
            to: from,
            unhashed: first.into_iter().collect(),
        });
        let mut pour = self.plain(file, path, known.source, identity, read_at_ms);
        pour.packer.remember(&before);
        pour.packer.push(first.as_slice());
        pour.place = Some(Place::File(known.entry.id));
        pour.alike = known.alike;
        pour.taken = taken;
        let (result, mark) = self.pour(pour);
        see(&list, &opened, known.entry.id, mark);
        result.map(|new| new || from > known.from || known.is_new)
    }

    fn plain<'a>(&self, file: usize, path: &'a Path, source: Source, identity: Identity, read_at_ms: i64) -> Pour<'a> {
        let options = &self.options;
        let speaks = Speaks {
            tenant: options.tenant.clone(),
            service: options.service.clone().or_else(|| service_of(path).filter(|_| path.as_os_str() != "-")),
            identity,
            read_at_ms,
            definitions: options.definitions,
        };
        let packer = Packer::new(speaks, options.codec, options.target);
        Pour { file, path, source, packer, place: None, taken: None, alike: vec![], warned: false }
    }
}

/// What this run saw of a file, before anything can be renamed behind its back.
fn see(list: &ReaderList, opened: &File, id: EntryId, mark: Mark) {
    let stamp = opened.metadata().ok().as_ref().and_then(stamp);
    list.see(id, Seen { mark, stamp });
}
