// Topics, partitions, configs, groups and the cluster through the admin client.
const { assert, kafka, topic, unique, eventually, member, run } = require('./common')

run(async () => {
  const admin = kafka.admin()
  await admin.connect()
  const name = unique()
  assert.equal(await admin.createTopics({ validateOnly: true, waitForLeaders: false, topics: [{ topic: name }] }), true)
  assert.ok(!(await admin.listTopics()).includes(name), 'validateOnly')
  assert.equal(await admin.createTopics({ topics: [{ topic: name, numPartitions: 2 }] }), true)
  assert.equal(await admin.createTopics({ topics: [{ topic: name, numPartitions: 2 }] }), false)
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: 4 }] })
  const partitions = async () => (await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length
  await eventually(async () => (await partitions()) === 4, 'four partitions')

  const retention = async () => {
    const found = await admin.describeConfigs({ includeSynonyms: true, resources: [{ type: 2, name, configNames: ['retention.ms'] }] })
    return found.resources[0].configEntries[0]
  }
  assert.equal((await retention()).isDefault, true)
  await admin.alterConfigs({ resources: [{ type: 2, name, configEntries: [{ name: 'retention.ms', value: '9000' }] }] })
  await eventually(async () => (await retention()).configValue === '9000', 'altered')

  const group = unique('g')
  const reader = await member(group, name)
  await eventually(() => reader.partitions.length === 4, 'assigned')
  const [described] = (await admin.describeGroups([group])).groups
  assert.equal(described.state, 'Stable')
  assert.equal(described.members.length, 1)
  assert.ok((await admin.listGroups()).groups.some((g) => g.groupId === group && g.protocolType === 'consumer'))
  await reader.consumer.disconnect()
  await admin.setOffsets({ groupId: group, topic: name, partitions: [{ partition: 0, offset: '0' }] })
  await admin.deleteGroups([group])
  assert.ok(!(await admin.listGroups()).groups.some((g) => g.groupId === group), 'the group is gone')
  const cluster = await admin.describeCluster()
  assert.ok(cluster.clusterId && cluster.brokers.length > 0)
  await admin.deleteTopics({ topics: [name] })
  await eventually(async () => !(await admin.listTopics()).includes(name), 'gone')
  await admin.disconnect()
})
