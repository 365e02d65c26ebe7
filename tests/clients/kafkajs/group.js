// Three members share six partitions, one leaves, the rest take over; commits are where the next member starts.
const { assert, kafka, topic, unique, eventually, member, run } = require('./common')

const all = (members) => members.flatMap((m) => m.messages.map((x) => Number(x.value.toString())))
const owned = (members) => members.flatMap((m) => m.partitions).sort()
const even = (members) => eventually(
  () => owned(members).join() === '0,1,2,3,4,5' && members.every((m) => m.partitions.length === 6 / members.length),
  `${members.length} members share six partitions`, 30)

run(async () => {
  const name = await topic(6)
  const group = unique('g')
  const producer = kafka.producer()
  await producer.connect()
  const fill = (from) => producer.send({ topic: name, messages: [...Array(60).keys()].map((n) => (
    { partition: n % 6, value: String(from + n) })) })
  await fill(0)
  const members = []
  for (let n = 0; n < 3; n++) members.push(await member(group, name, { autoCommitInterval: 200 }))
  await even(members)
  await fill(60)
  await eventually(() => new Set(all(members)).size === 120, '120 values')
  const left = members.pop()
  await left.consumer.disconnect()
  await even(members)
  await fill(120)
  await eventually(() => new Set(all([left, ...members])).size === 180, '180 values')
  for (const m of members) await m.consumer.disconnect()

  const admin = kafka.admin()
  await admin.connect()
  const [offsets] = await admin.fetchOffsets({ groupId: group, topics: [name] })
  assert.deepEqual(offsets.partitions.map((p) => p.offset).sort(), Array(6).fill('30'))
  await admin.disconnect()
  await fill(180)
  const next = await member(group, name)
  await eventually(() => next.messages.length >= 60, 'the last 60')
  assert.deepEqual(all([next]).sort((a, b) => a - b), [...Array(60).keys()].map((n) => 180 + n))
  await next.consumer.disconnect()
  await producer.disconnect()
})
