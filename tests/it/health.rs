//! What the broker says of itself and of its disk.

use kafka_protocol::messages::DescribeLogDirsRequest;
use ringlog_tests::broker::{Start, folder};
use ringlog_tests::requests::record;

#[test]
fn the_size_of_the_file_system_and_what_is_left_of_it_are_told() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    let mut client = broker.client();
    client.create_topic("t", 1, &[]);
    assert_eq!(client.produce("t", 0, record(b"x")), (0, 0));
    for version in [1, 3, 4] {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let response = client.call(&request, version);
        assert_eq!(response.results.len(), 1);
        let dir = &response.results[0];
        assert!(dir.topics.iter().any(|topic| topic.name.as_str() == "t"));
        let (total, usable) = (dir.total_bytes, dir.usable_bytes);
        if version < 4 {
            assert_eq!((total, usable), (-1, -1));
        } else {
            // Whatever else is written meanwhile, there is some room, and not all of it is free.
            assert!(usable > 0 && usable < total, "{usable} of {total}");
        }
    }
    assert_eq!(broker.get("/health/live"), (200, "ok\n".to_owned()));
    assert_eq!(broker.get("/health/ready"), (200, "ok\n".to_owned()));
    broker.stop();
}
