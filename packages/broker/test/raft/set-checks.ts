// What sets of groups at rest have to do, each as a check that throws: run over the real classes, and over planted bugs.
import { randomFrom } from './schedule.js'
import { type SetClasses, SetWorld } from './set-world.js'

const GROUPS = 5
/** Longer than an election, and the pause of a set that was dissolved. */
const LONG = 120

export type SetCheck = (classes: SetClasses) => void

function settled(classes: SetClasses, seed = 1): SetWorld {
  const world = new SetWorld(classes, randomFrom(seed), GROUPS)
  world.run(LONG)
  const complaint = world.complaint()
  if (complaint !== null) throw new Error(complaint)
  return world
}

function leaderOf(world: SetWorld, group: number): number {
  return world.hosts.find(({ replicas }) => replicas[group]!.node.core?.role === 'leader')!.nodeId
}

function expectThat(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}

export const SET_CHECKS: Readonly<Record<string, SetCheck>> = {
  'groups at rest cost one heartbeat for each pair of nodes and interval, and no message of their own'(classes) {
    const world = settled(classes)
    let others = 0
    world.onBeat = (_from, _to, { kind }) => {
      if (kind === 'raft') others++
      return true
    }
    world.beats = 0
    world.run(40)
    const pairs = new Set([...Array(GROUPS).keys()].map((group) => leaderOf(world, group))).size * 2
    expectThat(others === 0, `${others} messages of groups that rest`)
    expectThat(world.beats <= pairs * 20, `${world.beats} heartbeats`)
  },

  'a group whose leader has stepped down is vouched for no more'(classes) {
    const world = settled(classes)
    const old = leaderOf(world, 0)
    const [heir, other] = [1, 2, 3].filter((nodeId) => nodeId !== old)
    // The follower hears of the old leader only, which leads other groups that rest on.
    world.stalled.add(`${heir}>${other}`)
    const { term } = world.host(old).replicas[0]!.node.running
    const { node } = world.host(heir!).replicas[0]!
    node.running.step({ kind: 'timeoutNow', from: old, to: heir!, term })
    node.settle()
    world.run(8)
    expectThat(node.running.role === 'leader', 'the other has been elected')
    const core = world.host(other!).replicas[0]!.node.running
    expectThat(!core.isAtRest, 'a follower rests with a leader that leads no more')
  },

  'a change of a set that is not the one here is not taken'(classes) {
    const world = settled(classes)
    const leader = leaderOf(world, 0)
    const [follower] = [1, 2, 3].filter((nodeId) => nodeId !== leader)
    const set = world.host(follower!).followed.get(leader)!
    const { replicas, find } = world.host(follower!)
    expectThat(set.size > 0, 'groups rest')
    const reply = set.heard({ epoch: 99, base: 98, entering: [], leaving: [] }, true, find)
    expectThat(reply.epoch === 0 && set.size === 0, 'a set of another epoch is vouched for')
    expectThat(!replicas[0]!.node.running.isAtRest, 'a group rests in a set that nobody has')
  },

  'an answer to a set that is none any more says nothing of the one that followed it'({ ledSetClass }) {
    const set = new ledSetClass(2, { heartbeatTicks: 2, electionMinTicks: 10, maxGroups: 10 }, 0)
    const group = { key: { topicId: 1, partition: 0, lane: 0 }, restsWith: 0, silentTicks: 0 }
    const member = {
      key: group.key,
      restWith: () => false,
      followerRests: () => void group.restsWith++,
      wake(_: number, silentTicks: number) {
        group.silentTicks = silentTicks
      },
    }
    const find = () => member
    const tick = () => set.tick(true, () => true)
    set.enter(member, 1, 1)
    tick()
    set.answered({ epoch: 1, left: [] }, find)
    expectThat(group.restsWith === 1, 'what is answered rests')
    set.lost()
    for (let at = 0; at < 10; at++) tick()
    set.enter(member, 1, 1)
    tick()
    // Answers from before the loss come in late, and go on coming.
    for (let at = 0; at < 12; at++) {
      set.answered({ epoch: 1, left: [] }, find)
      tick()
    }
    expectThat(group.restsWith === 1, 'an answer from before counts for a group that has come since')
    expectThat(group.silentTicks > 0 && set.size === 0, 'an answer from before is taken for a sign of life')
  },

  'a disk that completes nothing vouches for nothing, on either side'(classes) {
    const world = settled(classes)
    const leader = leaderOf(world, 0)
    const [one, two] = [1, 2, 3].filter((nodeId) => nodeId !== leader)
    world.host(leader).diskWorks = false
    world.run(2)
    for (const nodeId of [one!, two!]) {
      expectThat(!world.host(nodeId).replicas[0]!.node.running.isAtRest, 'a leader with a dead disk is vouched for')
    }
    world.heal()
    world.run(LONG)
    expectThat(world.complaint() === null, `after healing: ${world.complaint()}`)
    const now = leaderOf(world, 0)
    const [follower] = [1, 2, 3].filter((nodeId) => nodeId !== now)
    world.host(follower!).diskWorks = false
    world.run(4)
    expectThat(!world.host(now).replicas[0]!.node.running.isAtRest, 'a follower with a dead disk is vouched for')
  },

  'a leader that nobody hears is replaced as soon as without sets'(classes) {
    const world = settled(classes)
    const leader = leaderOf(world, 0)
    const others = [1, 2, 3].filter((nodeId) => nodeId !== leader)
    for (const nodeId of others) {
      world.stalled.add(`${leader}>${nodeId}`)
      world.stalled.add(`${nodeId}>${leader}`)
    }
    // The longest timeout, a second attempt where votes were split, and the messages between.
    for (let ticks = 0; ticks < 45; ticks++) {
      world.run(1)
      if (others.some((nodeId) => world.host(nodeId).replicas[0]!.node.running.isServing)) {
        world.run(30)
        expectThat(world.host(leader).replicas[0]!.node.running.role !== 'leader', 'it goes on leading alone')
        return
      }
    }
    throw new Error('no other leads')
  },

  'whatever happens, a healed world comes to rest'(classes) {
    for (let seed = 0; seed < 150; seed++) randomLife(classes, seed)
  },
}

function randomLife(classes: SetClasses, seed: number): void {
  const random = randomFrom(seed)
  const world = new SetWorld(classes, random, 3)
  world.run(random(2) * 60)
  for (let at = 0; at < 500; at++) randomEvent(world, random)
  world.heal()
  world.run(LONG)
  // A split vote takes its time.
  for (let more = 0; more < 4 && world.complaint() !== null; more++) world.run(LONG)
  const complaint = world.complaint()
  if (complaint !== null) throw new Error(`seed ${seed}: ${complaint}`)
}

function randomEvent(world: SetWorld, random: (bound: number) => number): void {
  const host = world.hosts[random(3)]!
  const other = world.hosts[random(3)]!.nodeId
  const name = `${host.nodeId}>${other}`
  const choice = random(100)
  if (choice < 40) {
    if (host.isUp) host.tick()
  } else if (choice < 84) for (let at = random(6); at >= 0; at--) world.deliver(name)
  else if (choice < 87) {
    if (random(3) === 0) world.stalled.add(name)
    else world.stalled.clear()
  } else if (choice < 89) {
    if (other !== host.nodeId) world.break(host.nodeId, other)
  } else if (choice < 90) world.crash(host.nodeId)
  else if (choice < 92) {
    if (!host.isUp) host.start()
  } else if (choice < 93) host.diskWorks = random(2) === 0
  else if (host.isUp) groupEvent(host.replicas[random(3)]!.node, random)
}

function groupEvent(
  node: SetWorld['hosts'][number]['replicas'][number]['node'],
  random: (bound: number) => number,
): void {
  const core = node.running
  const choice = random(4)
  if (choice < 2 && core.mayPropose) node.append(['x'])
  else if (choice === 2) core.requestRead()
  else core.transferTo(1 + random(3))
  node.settle()
}
