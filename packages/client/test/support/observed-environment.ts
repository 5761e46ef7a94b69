// Watches what one client hears of routes and what it sends, frame by frame, and holds it to the rule that nothing is
// sent under an older route than the newest it has heard of.
import type { ClientEnvironment, Link, LinkHandler } from '@millrace/client/environment'
import {
  compareRouteVersions,
  cursorClose,
  cursorClosed,
  cursorOpen,
  cursorOpened,
  FrameDecoder,
  type FrameHeader,
  MAX_FRAME_BYTES,
  mapDelta,
  mapSnapshot,
  messageName,
  produce,
  produceReply,
  Reader,
  type Route,
  type RouteVersion,
} from '@millrace/protocol'

export class RouteObserver {
  /** The newest version heard of, by topic id and partition. */
  readonly heard = new Map<string, { readonly route: Route; readonly by: string }>()
  /** What was sent under an older version than that. */
  readonly offences: string[] = []
  requests = 0

  /** The environment, with every connection watched. */
  watch(environment: ClientEnvironment): ClientEnvironment {
    return {
      ...environment,
      dial: (host, port, handler) => new ObservedLink(this, environment, host, port, handler).link,
    }
  }

  hear(topicId: number, partition: number, route: Route, by: string): void {
    if (route.term === 0) return
    const key = `${topicId}/${partition}`
    const known = this.heard.get(key)
    if (known === undefined || compareRouteVersions(route, known.route) > 0) this.heard.set(key, { route, by })
  }

  sent(what: string, topicId: number, partition: number, version: RouteVersion, address: string): void {
    this.requests++
    const known = this.heard.get(`${topicId}/${partition}`)
    if (known === undefined || compareRouteVersions(version, known.route) >= 0) return
    const newer = `of ${known.route.term} by ${known.by}`
    this.offences.push(
      `${what} for ${topicId}/${partition} to ${address} in term ${version.term}, having heard ${newer}`,
    )
  }
}

interface Place {
  readonly topicId: number
  readonly partition: number
}

class ObservedLink {
  readonly link: Link
  readonly #produced = new Map<number, readonly Place[]>()
  readonly #cursors = new Map<number, Place>()

  constructor(observer: RouteObserver, environment: ClientEnvironment, host: string, port: number, to: LinkHandler) {
    const heard = new FrameDecoder(MAX_FRAME_BYTES, (header, payload) => this.#hear(observer, header, payload))
    const sent = new FrameDecoder(MAX_FRAME_BYTES, (header, payload) =>
      this.#send(observer, header, payload, `${host}:${port}`),
    )
    const link = environment.dial(host, port, {
      onOpen: () => to.onOpen(),
      onBytes: (chunk) => {
        heard.push(new Uint8Array(chunk))
        to.onBytes(chunk)
      },
      onDrain: () => to.onDrain(),
      onClosed: (error) => to.onClosed(error),
    })
    const write = link.write.bind(link)
    link.write = (chunks) => {
      for (const chunk of chunks) sent.push(new Uint8Array(chunk))
      write(chunks)
    }
    this.link = link
  }

  #hear(observer: RouteObserver, { kind, id }: FrameHeader, payload: Uint8Array): void {
    const reader = new Reader(payload)
    if (kind === mapSnapshot.kind) {
      for (const { topicId, routes } of mapSnapshot.decode(reader).topics) {
        routes.forEach((route, partition) => {
          observer.hear(topicId, partition, route, messageName(kind))
        })
      }
    } else if (kind === mapDelta.kind) {
      for (const { topicId, partition, route } of mapDelta.decode(reader).routes) {
        observer.hear(topicId, partition, route, messageName(kind))
      }
    } else if (kind === produceReply.kind) {
      const places = this.#produced.get(id)
      produceReply.decode(reader).results.forEach(({ route }, i) => {
        const place = places?.[i]
        if (place !== undefined) observer.hear(place.topicId, place.partition, route, messageName(kind))
      })
    } else if (kind === cursorClosed.kind || kind === cursorOpened.kind) {
      const place = this.#cursors.get(id)
      const { route } = kind === cursorClosed.kind ? cursorClosed.decode(reader) : cursorOpened.decode(reader)
      if (place !== undefined) observer.hear(place.topicId, place.partition, route, messageName(kind))
    }
  }

  #send(observer: RouteObserver, { kind, id }: FrameHeader, payload: Uint8Array, address: string): void {
    if (kind === produce.kind) {
      const { entries } = produce.decode(new Reader(payload))
      this.#produced.set(id, entries)
      for (const { topicId, partition, routeVersion } of entries) {
        observer.sent('a batch', topicId, partition, routeVersion, address)
      }
    } else if (kind === cursorOpen.kind) {
      const { topicId, partition, routeVersion } = cursorOpen.decode(new Reader(payload))
      this.#cursors.set(id, { topicId, partition })
      observer.sent('a cursor', topicId, partition, routeVersion, address)
    } else if (kind === cursorClose.kind) {
      // What the broker may still say of a cursor that the client has closed is for nobody.
      this.#cursors.delete(id)
    }
  }
}
