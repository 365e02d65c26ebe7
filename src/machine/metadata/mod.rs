//! The metadata state machine: brokers, topics, partitions, settings and producer-id blocks of the cluster.
//!
//! Inputs are [`Command`]s, decided by [`decide()`] on an [`Image`] into [`Record`]s and a [`Reply`]. The records of
//! one decision are one [`Batch`], one entry of the log: all or nothing. [`Image::apply`] is the only thing that
//! changes an image, so that restart, replica and simulator agree. A reply leaves only once its batch is durable
//! and applied. [`Delta`] says what changed from one image to the next; [`Image::check`] asserts every invariant.
//!
//! Randomness is an argument (ids of new topics), time goes into the header of a batch.

mod apply;
mod batch;
mod check;
mod codec;
mod command;
mod cow;
mod decide;
mod delta;
mod election;
mod ids;
mod image;
mod names;
#[cfg(test)]
mod props;
mod record;
mod record_codec;
mod snapshot;

pub use batch::Batch;
pub use codec::DecodeError;
pub use command::{
    AlterOp, ApiError, Command, ConfigResource, CreatedTopic, DeletedTopic, GivenSettings, MorePartitions,
    NewTopic, Registration, Reply, SettingChange, TopicRef,
};
pub use cow::CowMap;
pub use decide::{Context, Decision, decide};
pub use delta::{Delta, PartitionDelta, TopicDelta};
pub use ids::{id_text, is_usable_id};
pub use image::{Image, Load};
pub use names::{check_topic_name, is_internal};
pub use record::{Broker, BrokerState, Capacity, Endpoint, Partition, Record, Topic};
