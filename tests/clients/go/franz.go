package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var background = context.Background()

// franzTopic creates a topic with the newest request that the broker offers.
func franzTopic(cl *kgo.Client, name string, partitions int32) {
	req, topic := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, -1
	req.Topics, req.TimeoutMillis = append(req.Topics, topic), 15000
	resp, err := req.RequestWith(background, cl)
	must(err)
	same("create", resp.Topics[0].ErrorCode, 0)
}

func franzClient(options ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap))...)
	must(err)
	return cl
}

// franzCodecs: every codec, keys, headers, null values and offsets; then by timestamp and from the end.
func franzCodecs() {
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for i, codec := range codecs {
		topic := fmt.Sprintf("%s-%s", prefix, codecNames[i])
		p := franzClient(kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(5*time.Millisecond))
		franzTopic(p, topic, 1)
		var records []*kgo.Record
		for n := 0; n < 200; n++ {
			r := &kgo.Record{Topic: topic, Key: []byte(fmt.Sprint("k", n)), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(n)),
				Headers: []kgo.RecordHeader{{Key: "n", Value: []byte(fmt.Sprint(n))}}}
			if n%20 != 0 {
				r.Value = []byte(fmt.Sprint("value ", n))
			}
			records = append(records, r)
		}
		must(p.ProduceSync(background, records...).FirstErr())
		p.Close()
		c := franzClient(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		var got []*kgo.Record
		for len(got) < 200 {
			fetches := c.PollFetches(background)
			must(fetches.Err())
			got = append(got, fetches.Records()...)
		}
		c.Close()
		for n, r := range got {
			same(codecNames[i], []any{r.Offset, r.Key, r.Value, r.Timestamp.UnixMilli(), r.Headers[0].Value},
				[]any{n, records[n].Key, records[n].Value, 1_700_000_000_000 + n, []byte(fmt.Sprint(n))})
		}
		c = franzClient(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(1_700_000_000_150)))
		same("by time", c.PollRecords(background, 1).Records()[0].Offset, 150)
		c.Close()
	}
}

type franzMember struct {
	sync.Mutex
	client *kgo.Client
	owned  int
	values []string
}

func franzJoin(group, topic string) *franzMember {
	m := &franzMember{}
	change := func(by int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			m.Lock()
			defer m.Unlock()
			m.owned += by * len(parts[topic])
		}
	}
	m.client = franzClient(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(300*time.Millisecond), kgo.AutoCommitInterval(200*time.Millisecond),
		kgo.OnPartitionsAssigned(change(1)), kgo.OnPartitionsRevoked(change(-1)), kgo.OnPartitionsLost(change(-1)))
	go func() {
		for {
			fetches := m.client.PollFetches(background)
			if fetches.IsClientClosed() {
				return
			}
			m.Lock()
			fetches.EachRecord(func(r *kgo.Record) { m.values = append(m.values, string(r.Value)) })
			m.Unlock()
		}
	}()
	return m
}

func (m *franzMember) state() (int, []string) {
	m.Lock()
	defer m.Unlock()
	return m.owned, append([]string(nil), m.values...)
}

// franzGroup: cooperative-sticky with three members, one leaves; every record is read.
func franzGroup() {
	topic, group := prefix+"-t", prefix+"-g"
	p := franzClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	franzTopic(p, topic, 6)
	fill := func(from int) {
		for n := from; n < from+60; n++ {
			must(p.ProduceSync(background, &kgo.Record{Topic: topic, Partition: int32(n % 6), Value: []byte(fmt.Sprint(n))}).FirstErr())
		}
	}
	members := []*franzMember{franzJoin(group, topic), franzJoin(group, topic), franzJoin(group, topic)}
	even := func(members []*franzMember) func() bool {
		return func() bool {
			for _, m := range members {
				if owned, _ := m.state(); owned != 6/len(members) {
					return false
				}
			}
			return true
		}
	}
	read := func(end int) func() bool {
		return func() bool {
			var all []string
			for _, m := range members {
				_, values := m.state()
				all = append(all, values...)
			}
			return count(all, end) == end
		}
	}
	eventually("three share", even(members))
	fill(0)
	eventually("60 read", read(60))
	members[0].client.Close()
	eventually("two share", even(members[1:]))
	fill(60)
	eventually("120 read", read(120))
}
