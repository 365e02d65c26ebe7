"""aiokafka: the asyncio client, with older request versions than the others."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from harness import same, test


async def read(c, count, timeout_s=20):
    return [await asyncio.wait_for(c.getone(), timeout_s) for _ in range(count)]


@test()
def codecs_and_positions(t):
    """Every codec round trip with keys, headers and timestamps; seek, offsets for times, beginning and end."""
    async def main():
        stamp = 1_700_000_000_000
        for codec in (None, "gzip", "snappy", "lz4", "zstd"):
            topic = t.topic(codec or "none")
            tp = TopicPartition(topic, 0)
            async with AIOKafkaProducer(bootstrap_servers=t.bootstrap, compression_type=codec, linger_ms=10) as p:
                sent = [await p.send(topic, b"v%d" % n * 20, b"k", timestamp_ms=stamp + n, headers=[("n", b"%d" % n)])
                        for n in range(100)]
                same([(await s).offset for s in sent], list(range(100)))
            async with AIOKafkaConsumer(bootstrap_servers=t.bootstrap, auto_offset_reset="earliest") as c:
                c.assign([tp])
                got = await read(c, 100)
                same([(r.offset, r.key, r.value, r.timestamp, r.headers) for r in got],
                     [(n, b"k", b"v%d" % n * 20, stamp + n, (("n", b"%d" % n),)) for n in range(100)], codec)
                same(((await c.beginning_offsets([tp]))[tp], (await c.end_offsets([tp]))[tp]), (0, 100))
                same((await c.offsets_for_times({tp: stamp + 42}))[tp].offset, 42)
                c.seek(tp, 97)
                same([r.offset for r in await read(c, 3)], [97, 98, 99])
    asyncio.run(main())


@test()
def group_of_two(t):
    """Two members share a topic, one leaves, the other takes over; a commit is where the next one starts."""
    async def main():
        topic, group = t.topic(partitions=4), t.name("g")

        def member():
            return AIOKafkaConsumer(topic, bootstrap_servers=t.bootstrap, group_id=group, auto_offset_reset="earliest",
                                    enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=500,
                                    metadata_max_age_ms=1000)

        async def shared(members):
            async def even():
                while sorted(len(m.assignment()) for m in members) != [4 // len(members)] * len(members):
                    await asyncio.sleep(0.05)
            await asyncio.wait_for(even(), 25)
        one, two = member(), member()
        await one.start()
        await two.start()
        await shared([one, two])
        async with AIOKafkaProducer(bootstrap_servers=t.bootstrap, enable_idempotence=True) as p:
            for n in range(40):
                await p.send_and_wait(topic, b"%d" % n, partition=n % 4)
        got = [r.value for m in (one, two) for r in await read(m, 20)]
        same(sorted(map(int, got)), list(range(40)))
        await one.commit()
        await two.commit()
        await two.stop()
        await shared([one])
        async with AIOKafkaProducer(bootstrap_servers=t.bootstrap) as p:
            await p.send_and_wait(topic, b"last", partition=3)
        same((await read(one, 1))[0].value, b"last")
        await one.stop()
    asyncio.run(main())


@test()
def admin_creates_and_deletes(t):
    """Create, list, describe, delete."""
    async def main():
        a, name = AIOKafkaAdminClient(bootstrap_servers=t.bootstrap), t.name()
        await a.start()
        created = await a.create_topics([NewTopic(name, 3, 1)])
        same([e[1] for e in created.topic_errors], [0])
        assert name in await a.list_topics()
        same(len((await a.describe_topics([name]))[0]["partitions"]), 3)
        await a.delete_topics([name])
        await a.close()
    asyncio.run(main())
