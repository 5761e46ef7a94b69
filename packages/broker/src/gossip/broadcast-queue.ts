// News of members on their way to everybody: each is passed on a limited number of times, the freshest first, at most one
// per member.
import { claimBytes } from './claim-codec.js'
import type { Claim, NodeId } from './gossip-types.js'

/** News that did not fit into a datagram before no more are tried. */
const MAX_TOO_LONG = 4

interface News {
  readonly claim: Claim
  readonly byteLength: number
}

export class BroadcastQueue {
  /** By how often they were passed on. */
  private readonly rounds: Map<NodeId, News>[] = []
  private count = 0

  get size(): number {
    return this.count
  }

  /** Takes the place of what was to be told of this member before. */
  add(claim: Claim): void {
    this.remove(claim.nodeId)
    this.round(0).set(claim.nodeId, { claim, byteLength: claimBytes(claim) })
    this.count++
  }

  remove(nodeId: NodeId): void {
    for (const round of this.rounds) if (round.delete(nodeId)) this.count--
  }

  /**
   * What fits into `budgetBytes`, what was told least often first.
   * @param limit how often each is told; afterwards it is forgotten.
   */
  take(budgetBytes: number, limit: number, except: NodeId): Claim[] {
    const taken: { news: News; sent: number }[] = []
    let leftBytes = budgetBytes
    let tooLong = 0
    for (const [sent, round] of this.rounds.entries()) {
      for (const news of round.values()) {
        if (tooLong === MAX_TOO_LONG) break
        if (news.claim.nodeId === except) continue
        if (news.byteLength > leftBytes) {
          tooLong++
          continue
        }
        leftBytes -= news.byteLength
        taken.push({ news, sent })
      }
    }
    for (const { news, sent } of taken) this.passedOn(news, sent, limit)
    return taken.map(({ news }) => news.claim)
  }

  private passedOn(news: News, sent: number, limit: number): void {
    const { nodeId } = news.claim
    this.rounds[sent]?.delete(nodeId)
    if (sent + 1 < limit) this.round(sent + 1).set(nodeId, news)
    else this.count--
  }

  private round(sent: number): Map<NodeId, News> {
    let round = this.rounds[sent]
    if (round === undefined) {
      round = new Map()
      this.rounds[sent] = round
    }
    return round
  }
}

/** How often a piece of news is passed on, so that it reaches all of them but for bad luck. */
export function retransmitLimit(factor: number, members: number): number {
  return factor * Math.ceil(Math.log10(members + 1))
}
