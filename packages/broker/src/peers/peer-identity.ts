// Who a broker is to its peers, and whether the one at the other end is who it should be.
import { type PeerHello, type PeerHelloReply, ProtocolError } from '@millrace/protocol'

/** Versions of the protocol between brokers, both included. */
export interface VersionRange {
  readonly min: number
  readonly max: number
}

export interface PeerIdentity {
  /** 32 hexadecimal digits each. */
  readonly clusterId: string
  readonly diskId: string
  readonly nodeId: number
  /** Times a broker has started on the disk. */
  readonly starts: number
  readonly versions: VersionRange
}

/** What is known of a member before it has said a word. */
export interface ExpectedPeer {
  readonly nodeId: number
  /** Null while nobody knows. */
  readonly diskId: string | null
  /** Of the latest start of that disk that was heard of. */
  readonly starts: number
}

/** @returns the highest version both sides speak. @throws ProtocolError UNSUPPORTED_VERSION */
export function chooseVersion(own: VersionRange, { minVersion, maxVersion }: PeerHello): number {
  const version = Math.min(own.max, maxVersion)
  if (version >= own.min && version >= minVersion) return version
  throw new ProtocolError(
    'UNSUPPORTED_VERSION',
    `the peer speaks ${minVersion} to ${maxVersion}, this broker ${own.min} to ${own.max}`,
  )
}

/**
 * Whether a PEER_HELLO comes from a member and means this broker.
 * @param expected what is known of the member it claims to be; undefined when there is no such member.
 * @throws ProtocolError WRONG_CLUSTER, WRONG_NODE, WRONG_DISK.
 */
export function checkHello(hello: PeerHello, own: PeerIdentity, expected: ExpectedPeer | undefined): void {
  if (hello.clusterId !== own.clusterId) {
    throw new ProtocolError('WRONG_CLUSTER', `this is cluster ${own.clusterId}, not ${hello.clusterId}`)
  }
  if (hello.expectedNodeId !== own.nodeId) {
    throw new ProtocolError('WRONG_NODE', `this is node ${own.nodeId}, not ${hello.expectedNodeId}`)
  }
  if (expected === undefined) {
    throw new ProtocolError('WRONG_NODE', `node ${hello.nodeId} is no other member of the cluster`)
  }
  checkDisk(hello, expected)
}

/** The same for the answer of a member that was dialled. @throws ProtocolError also UNSUPPORTED_VERSION. */
export function checkHelloReply(reply: PeerHelloReply, own: PeerIdentity, expected: ExpectedPeer): void {
  if (reply.version < own.versions.min || reply.version > own.versions.max) {
    throw new ProtocolError('UNSUPPORTED_VERSION', `the peer chose version ${reply.version}, which was not offered`)
  }
  if (reply.clusterId !== own.clusterId) {
    throw new ProtocolError('WRONG_CLUSTER', `the peer is of cluster ${reply.clusterId}, not ${own.clusterId}`)
  }
  if (reply.nodeId !== expected.nodeId) {
    throw new ProtocolError('WRONG_NODE', `node ${reply.nodeId} is at the address of node ${expected.nodeId}`)
  }
  checkDisk(reply, expected)
}

function checkDisk(peer: PeerHello | PeerHelloReply, expected: ExpectedPeer): void {
  if (expected.diskId === null) return
  if (peer.diskId !== expected.diskId) {
    throw new ProtocolError('WRONG_DISK', `node ${peer.nodeId} has disk ${peer.diskId}, not ${expected.diskId}`)
  }
  if (peer.starts < expected.starts) {
    throw new ProtocolError('WRONG_NODE', `node ${peer.nodeId} has started anew since this connection was begun`)
  }
}
