//! The port's laws on the scripted service: it keeps them itself, so that what a test finds with it is the adapter's; and the laws that need faults.

use std::{cell::RefCell, num::NonZeroU16};

use super::{
    Kinesis, open, quick,
    scripted::{Act, Scripted, sequence},
};
use crate::{
    position::{SequenceNumber, ShardId},
    stream::law::{self, Fault},
};

#[tokio::test]
async fn the_scripted_service_keeps_the_laws_of_the_port() {
    let services = RefCell::new(vec![]);
    law::suite(async |shards: NonZeroU16| {
        let service = Scripted::start(shards.get().into()).await;
        let stream = open(&service, quick()).await;
        services.borrow_mut().push(service);
        stream
    })
    .await;
}

#[tokio::test]
async fn what_was_trimmed_is_said() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    law::what_was_trimmed_is_said(&stream, async |_: &Kinesis, _: &ShardId, through: SequenceNumber| {
        let mut state = service.state();
        let shard = &mut state.shards[0];
        while sequence(shard.first).parse::<SequenceNumber>().unwrap() <= through {
            shard.records.pop_front();
            shard.first += 1;
        }
    })
    .await;
}

#[tokio::test]
async fn what_failed_is_said_truly() {
    for fault in [Fault::AnswersLost, Fault::NothingDone, Fault::Refused, Fault::RefusedInPart] {
        let acts = match fault {
            Fault::AnswersLost => vec![Act::Lose, Act::Cut],
            Fault::NothingDone => vec![Act::Reset, Act::Error(500, "InternalFailure", "")],
            Fault::Refused => vec![
                Act::Error(400, "ProvisionedThroughputExceededException", ""),
                Act::Error(400, "AccessDeniedException", ""),
                Act::Error(400, "ResourceNotFoundException", ""),
            ],
            Fault::RefusedInPart => ["ProvisionedThroughputExceededException", "InternalFailure"]
                .map(|code| Act::FailRecords(vec![(0, code), (2, code)]))
                .into(),
        };
        for act in acts {
            let service = Scripted::start(2).await;
            let stream = open(&service, quick()).await;
            let arm = async |armed: bool| {
                let mut state = service.state();
                match armed {
                    true => state.always.insert("PutRecords", act.clone()),
                    false => state.always.remove("PutRecords"),
                };
            };
            law::what_failed_is_said_truly(&stream, fault, arm).await;
        }
    }
}
