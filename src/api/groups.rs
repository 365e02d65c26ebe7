//! Requests about several groups: dealt out to the partitions of `__consumer_offsets` that hold the groups, and the
//! answers put back in the order asked.

use crate::api::find_coordinator::offsets_partition;
use crate::machine::metadata::Image;
use std::collections::BTreeMap;

/// What goes to one partition of `__consumer_offsets`.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// The partition; none before `__consumer_offsets` was created.
    pub partition: Option<i32>,
    /// What is asked there.
    pub items: Vec<T>,
    places: Vec<usize>,
}

/// The places of a part's items among all that were asked, for [`join`].
#[derive(Debug)]
pub struct Places(Vec<usize>);

impl<T> Part<T> {
    /// Takes the part apart: the partition, what is asked there, and where the answers belong.
    #[must_use]
    pub fn into_parts(self) -> (Option<i32>, Vec<T>, Places) {
        (self.partition, self.items, Places(self.places))
    }
}

/// Deals items out by the group that each is about.
#[must_use]
pub fn split<T>(image: &Image, items: Vec<T>, group: impl Fn(&T) -> &str) -> Vec<Part<T>> {
    let mut parts: BTreeMap<Option<i32>, Part<T>> = BTreeMap::new();
    for (place, item) in items.into_iter().enumerate() {
        let partition = offsets_partition(image, group(&item));
        let part = parts.entry(partition).or_insert_with(|| Part {
            partition,
            items: Vec::new(),
            places: Vec::new(),
        });
        part.items.push(item);
        part.places.push(place);
    }
    parts.into_values().collect()
}

/// Puts the answers of all parts in the order asked.
#[must_use]
pub fn join<R>(parts: impl IntoIterator<Item = (Places, Vec<R>)>) -> Vec<R> {
    let mut answers: Vec<(usize, R)> = Vec::new();
    for (places, replies) in parts {
        assert_eq!(places.0.len(), replies.len(), "each group has its answer");
        answers.extend(places.0.into_iter().zip(replies));
    }
    answers.sort_by_key(|(place, _)| *place);
    assert!(answers.iter().enumerate().all(|(at, (place, _))| at == *place), "nothing is lost or doubled");
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use crate::machine::group::partition_for;

    #[test]
    fn split_and_joined_in_the_order_asked() {
        let fixture = Fixture::new();
        let groups: Vec<String> = (0..20).map(|n| format!("group-{}", n % 13)).collect();
        let parts = split(&fixture.image, groups.clone(), |group| group);
        assert!(parts.len() > 1);
        let answers = parts.into_iter().map(|part| {
            assert!(part.items.iter().all(|group| Some(partition_for(group, 4)) == part.partition));
            let (_, items, places) = part.into_parts();
            (places, items)
        });
        assert_eq!(join(answers), groups);
    }

    #[test]
    fn without_the_topic_there_is_no_partition() {
        let parts = split(&Fixture::empty().image, vec!["a", "b"], |group| group);
        assert_eq!((parts.len(), parts[0].partition), (1, None));
        assert!(split(&Fixture::new().image, Vec::<&str>::new(), |group| group).is_empty());
    }
}
