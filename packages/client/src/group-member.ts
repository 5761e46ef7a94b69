// The membership of one consumer in its group: joins, keeps its lease by beats that the coordinator answers when something
// changes, tells what is assigned, commits, and leaves. When it was given up for dead it joins again as somebody new.
import {
  type AssignedPartition,
  CODE_OK,
  type CommittedPartition,
  errorName,
  groupBeat,
  groupBeatReply,
  groupCommit,
  groupCommitReply,
  groupJoin,
  groupJoined,
} from '@millrace/protocol'
import type { Backoff } from './backoff.js'
import type { Cluster } from './cluster.js'
import type { ClientTimer } from './environment.js'
import { closedError, errorOfCode, MillraceError, toMillraceError } from './errors.js'
import { checkAnswers, coordinatorOf, type LeaderRequests } from './leader-requests.js'
import { LeaseWatch } from './lease-watch.js'
import type { ResolvedGroupOptions } from './options.js'
import type { Warnings } from './warnings.js'

export interface MemberOwner {
  /** All partitions that are this member's now; called whenever they change. */
  assigned(partitions: readonly AssignedPartition[]): void
  /** The lease ran out: every partition is somebody else's, or will be. The member joins again by itself. */
  lost(): void
  /** The lease may have run out, or has not after all: nothing new may be begun in between. */
  doubted(inDoubt: boolean): void
  /** It cannot be a member. */
  failed(error: MillraceError): void
}

/** One joining, and what follows until it is over. */
interface Life {
  readonly memberId: bigint
  readonly sinceMs: number
  /** 0 before it has joined. */
  epoch: number
  /** Of the assignment. */
  version: number
}

/** The coordinator answers a beat after this share of the lease at the latest. */
const BEAT_SHARE = 1 / 4

export class GroupMember {
  readonly #cluster: Cluster
  readonly #options: ResolvedGroupOptions
  readonly #topicId: number
  readonly #owner: MemberOwner
  readonly #coordinator: LeaderRequests
  readonly #watch: LeaseWatch
  readonly #backoff: Backoff
  #rejoinTimer: ClientTimer | null = null
  #life: Life | null = null
  #joining: Promise<void> = Promise.resolve()
  #over = false

  constructor(
    cluster: Cluster,
    warnings: Warnings,
    options: ResolvedGroupOptions,
    topicId: number,
    owner: MemberOwner,
  ) {
    this.#cluster = cluster
    this.#options = options
    this.#topicId = topicId
    this.#owner = owner
    this.#coordinator = coordinatorOf(cluster, options.group)
    this.#watch = new LeaseWatch(cluster.environment, warnings, options, (inDoubt) => owner.doubted(inDoubt))
    this.#backoff = cluster.newBackoff()
  }

  start(): void {
    const life = { memberId: this.#drawId(), sinceMs: this.#nowMs, epoch: 0, version: 0 }
    this.#life = life
    this.#live(life).catch((cause: unknown) => this.#fail(life, toMillraceError(cause)))
  }

  /**
   * Commits and releases. Resolves with a code for each entry once the coordinator has it in its log, whatever happens
   * to coordinators meanwhile; with null when the member was given up for dead before.
   * @throws MillraceError CLOSED when it was stopped, MEMBER_FENCED when another process has its name now.
   */
  async commit(entries: readonly CommittedPartition[], leaves = false): Promise<readonly number[] | null> {
    const life = this.#life
    if (life === null) return null
    // Whoever leaves while it joins would stay until its lease runs out.
    if (leaves && life.epoch === 0) await this.#joining
    if (life.epoch === 0) return null
    const { memberId, epoch: memberEpoch } = life
    const { group } = this.#options
    const reply = await this.#coordinator.ask({
      codec: groupCommit,
      replyCodec: groupCommitReply,
      message: (place) => ({ place: { ...place, memberId }, memberEpoch, leaves, group, entries }),
    })
    if (reply.code === CODE_OK) {
      checkAnswers(reply.codes.length, entries.length)
      return reply.codes
    }
    if (errorName(reply.code) === 'UNKNOWN_MEMBER') {
      this.#lose(life)
      return null
    }
    const error = this.#refusal(reply.code)
    this.#fail(life, error)
    throw error
  }

  /** Asks and tells nothing more. */
  stop(): void {
    this.#over = true
    this.#watch.stop()
    this.#rejoinTimer?.cancel()
    this.#coordinator.stop(closedError('the consumer'))
  }

  get #nowMs(): number {
    return this.#cluster.environment.monotonicMs()
  }

  async #live(life: Life): Promise<void> {
    this.#joining = this.#join(life)
    await this.#joining
    while (this.#isCurrent(life)) await this.#beat(life)
  }

  #isCurrent(life: Life): boolean {
    return !this.#over && this.#life === life
  }

  async #join(life: Life): Promise<void> {
    const { memberId } = life
    const { group, memberName, leaseMs } = this.#options
    const { clientId } = this.#cluster
    const sentMs = this.#nowMs
    const reply = await this.#coordinator.ask({
      codec: groupJoin,
      replyCodec: groupJoined,
      message: (place) => ({
        place: { ...place, memberId },
        leaseMs,
        group,
        memberName: memberName ?? '',
        clientId,
        topicIds: [this.#topicId],
      }),
    })
    if (!this.#isCurrent(life)) return
    if (errorName(reply.code) === 'UNKNOWN_MEMBER') this.#lose(life)
    else if (reply.code !== CODE_OK) this.#fail(life, this.#refusal(reply.code))
    else {
      life.epoch = reply.memberEpoch
      this.#watch.granted(reply.leaseMs, sentMs)
      this.#cluster.report('group-joined', `joined group ${group}`, {})
    }
  }

  /** One beat and its answer, which comes when something has changed, or after a while. */
  async #beat(life: Life): Promise<void> {
    const { memberId, epoch: memberEpoch } = life
    const { group } = this.#options
    const sentMs = this.#nowMs
    const reply = await this.#coordinator.ask({
      codec: groupBeat,
      replyCodec: groupBeatReply,
      message: (place) => ({
        place: { ...place, memberId },
        memberEpoch,
        version: life.version,
        waitMs: this.#waitMs(),
        group,
      }),
    })
    if (!this.#isCurrent(life)) return
    if (errorName(reply.code) === 'UNKNOWN_MEMBER') this.#lose(life)
    else if (reply.code !== CODE_OK) this.#fail(life, this.#refusal(reply.code))
    else {
      this.#watch.renewed(sentMs)
      if (sentMs - life.sinceMs >= this.#watch.leaseMs * BEAT_SHARE) this.#backoff.reset()
      if (reply.version === life.version) return
      life.version = reply.version
      this.#owner.assigned(reply.assigned)
    }
  }

  #waitMs(): number {
    if (this.#watch.isInDoubt) return 0
    // An answer that is held back must not be taken for one that was lost.
    return Math.floor(Math.min(this.#watch.leaseMs * BEAT_SHARE, this.#cluster.requestTimeoutMs / 2))
  }

  /** Given up for dead: whatever it had is not its own. */
  #lose(life: Life): void {
    if (!this.#isCurrent(life)) return
    const { group } = this.#options
    this.#life = null
    this.#cluster.report('group-lost', `the lease of this member of group ${group} ran out; it joins again`, {})
    this.#owner.lost()
    this.#watch.ended()
    this.#rejoinTimer = this.#cluster.environment.timer(this.#backoff.next(), () => this.start())
  }

  #fail(life: Life, error: MillraceError): void {
    if (!this.#isCurrent(life)) return
    this.stop()
    this.#owner.failed(error)
  }

  #refusal(code: number): MillraceError {
    const { group, memberName } = this.#options
    const who = memberName === null ? `group ${group}` : `member ${memberName} of group ${group}`
    const { code: name, detail } = errorOfCode(code, who)
    return new MillraceError(name, detail, { fatal: true })
  }

  #drawId(): bigint {
    const bytes = new Uint8Array(8)
    this.#cluster.environment.fillRandom(bytes)
    return new DataView(bytes.buffer).getBigUint64(0, true)
  }
}
