package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V4_0_0_0
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	return c
}

func saramaTopic(name string, partitions int32) {
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, saramaConfig())
	must(err)
	must(admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
	eventually("leaders", func() bool {
		found, err := admin.DescribeTopics([]string{name})
		return err == nil && len(found) == 1 && len(found[0].Partitions) == int(partitions)
	})
	must(admin.Close())
}

// saramaCodecs: every codec, keys, headers and offsets, with the idempotent producer; offsets by time.
func saramaCodecs() {
	for i, name := range codecNames {
		topic := fmt.Sprintf("%s-%s", prefix, name)
		saramaTopic(topic, 1)
		config := saramaConfig()
		config.Producer.Compression = sarama.CompressionCodec(i)
		config.Producer.Idempotent, config.Net.MaxOpenRequests = true, 1
		p, err := sarama.NewSyncProducer([]string{bootstrap}, config)
		must(err)
		var batch []*sarama.ProducerMessage
		for n := 0; n < 200; n++ {
			batch = append(batch, &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(fmt.Sprint("k", n)),
				Value: sarama.StringEncoder(fmt.Sprint("value ", n)), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(n)),
				Headers: []sarama.RecordHeader{{Key: []byte("n"), Value: []byte(fmt.Sprint(n))}}})
		}
		must(p.SendMessages(batch))
		must(p.Close())
		client, err := sarama.NewClient([]string{bootstrap}, saramaConfig())
		must(err)
		at, err := client.GetOffset(topic, 0, 1_700_000_000_150)
		must(err)
		same("by time", at, 150)
		c, err := sarama.NewConsumerFromClient(client)
		must(err)
		part, err := c.ConsumePartition(topic, 0, sarama.OffsetOldest)
		must(err)
		for n := 0; n < 200; n++ {
			m := <-part.Messages()
			same(name, []any{m.Offset, string(m.Key), string(m.Value), m.Timestamp.UnixMilli(), string(m.Headers[0].Value)},
				[]any{n, fmt.Sprint("k", n), fmt.Sprint("value ", n), 1_700_000_000_000 + n, fmt.Sprint(n)})
		}
		must(client.Close())
	}
}

type saramaMember struct {
	sync.Mutex
	group  sarama.ConsumerGroup
	owned  int
	values []string
}

func (m *saramaMember) Setup(s sarama.ConsumerGroupSession) error {
	m.Lock()
	defer m.Unlock()
	m.owned = 0
	for _, parts := range s.Claims() {
		m.owned += len(parts)
	}
	return nil
}

func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *saramaMember) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.Lock()
		m.values = append(m.values, string(message.Value))
		m.Unlock()
		s.MarkMessage(message, "")
	}
	return nil
}

func saramaJoin(group, topic string) *saramaMember {
	g, err := sarama.NewConsumerGroup([]string{bootstrap}, group, saramaConfig())
	must(err)
	m := &saramaMember{group: g}
	go func() {
		for g.Consume(context.Background(), []string{topic}, m) == nil {
		}
	}()
	return m
}

func (m *saramaMember) state() (int, []string) {
	m.Lock()
	defer m.Unlock()
	return m.owned, append([]string(nil), m.values...)
}

// saramaGroup: range with three members, one leaves; every record is read.
func saramaGroup() {
	topic, group := prefix+"-t", prefix+"-g"
	saramaTopic(topic, 6)
	config := saramaConfig()
	config.Producer.Partitioner = sarama.NewManualPartitioner
	p, err := sarama.NewSyncProducer([]string{bootstrap}, config)
	must(err)
	fill := func(from int) {
		for n := from; n < from+60; n++ {
			_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: int32(n % 6), Value: sarama.StringEncoder(fmt.Sprint(n))})
			must(err)
		}
	}
	members := []*saramaMember{saramaJoin(group, topic), saramaJoin(group, topic), saramaJoin(group, topic)}
	even := func(members []*saramaMember) func() bool {
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
	must(members[0].group.Close())
	eventually("two share", even(members[1:]))
	fill(60)
	eventually("120 read", read(120))
}
