// The help of the command and of each of its commands: one screen each.
import type { CommandName } from './command-line.js'

const GLOBAL = `
  -b, --bootstrap HOST:PORT[,...]  brokers to begin with  [MILLRACE_BOOTSTRAP or localhost:7420]
      --json                       results and errors as JSON
  -h, --help                       this page
`

const OVERVIEW = `millrace: topics, records and the cluster from the command line

Usage: millrace COMMAND [options]

  topic create TOPIC     make a topic
  topic list, describe   the topics; settings, leaders and replicas of one
  topic alter TOPIC      more partitions, other replicas or limits on what is kept
  topic delete TOPIC     delete a topic and all its records
  produce TOPIC          send the lines of standard input
  consume TOPIC          print records
  group VERB             list, describe, reset or delete consumer groups, with their lag
  cluster status         the brokers, and what each leads
  cluster health         whether every partition has a leader and all its replicas
  cluster members        every broker: rack, state, and what is to be on it
  broker drain NODE      have everything on a broker go elsewhere
  broker remove NODE     take a broker that has nothing left out of the cluster, for good
  partition move, moves  have a partition kept by other brokers; those on their way
  version                versions of this program and of the protocol

Options of every command:
${GLOBAL.slice(1)}
'millrace COMMAND --help' explains one. Data goes to standard output, everything else
to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 exists
already, 6 no broker reached, 7 some records failed, 8 unhealthy, 130 interrupted.
`

const PAGES: Readonly<Record<CommandName, string>> = {
  'topic create': `Usage: millrace topic create TOPIC [options]

Makes a topic. Names have 1 to 249 characters of A-Z a-z 0-9 . _ -

  -p, --partitions COUNT     partitions the keys are spread over  [1]
  -r, --replicas COUNT       brokers that keep each partition  [3, or all if there are fewer]
      --durability LEVEL     flushed: acknowledged records survive a power cut
                             buffered: faster; they survive a crash of the broker  [flushed]
      --codecs LIST          compressions producers may use: none and any of gzip, zstd; for
                             zstd, consumers need Node 22.15 or newer  [none,gzip]
      --retention TIME       how long records are kept: 30s, 15m, 12h, 7d  [for ever]
      --retention-bytes SIZE how much of each partition is kept: 512m, 10g  [everything]
${GLOBAL}
  millrace topic create orders --partitions 6 --replicas 3 --retention 7d --retention-bytes 10g
`,
  'topic list': `Usage: millrace topic list [options]

The topics of the cluster: name, partitions, durability. A pipe gets the same
columns separated by tabs, without a header.

      --internal             those of the brokers' own too, whose names begin with __
${GLOBAL}
  millrace topic list | cut -f1
`,
  'topic describe': `Usage: millrace topic describe TOPIC [options]

Settings of a topic and, for each partition: its leader and core, the version of the route
to it (term and placement), the brokers that keep it, by how many batches the slowest of them
is behind, and the offsets it holds. A pipe gets the same columns separated by tabs.
${GLOBAL}`,
  'topic alter': `Usage: millrace topic alter TOPIC [options]

Changes a topic; what is not named stays. Ends when every partition has a leader.

  -p, --partitions COUNT     more partitions than it has; never fewer
      --break-key-order      needed for that: most keys go to another partition than
                             before, so that their records can be read out of order
  -r, --replicas COUNT       brokers that keep each partition
      --retention TIME       how long records are kept: 30s, 15m, 12h, 7d, or none
      --retention-bytes SIZE how much of each partition is kept: 512m, 10g, or none
${GLOBAL}
  millrace topic alter orders --retention 30d
`,
  'topic delete': `Usage: millrace topic delete TOPIC [options]

Deletes a topic with all its records. Asks first on a terminal.

  -y, --yes                  do not ask; needed where there is no terminal
${GLOBAL}`,
  produce: `Usage: millrace produce TOPIC [options]

Sends each line of standard input as one record, in order, and says on standard error
how many were acknowledged. Exits with 7 when only some could be sent.

  -k, --key-separator TEXT   the part of a line before TEXT is the key
      --file PATH            read this file instead of standard input
      --acks LEVEL           all: committed, leader: written by the leader,
                             none: handed to the network  [all]
      --codec NAME           none, gzip or zstd (Node 22.15 or newer)  [none]
${GLOBAL}
  printf 'a:1\\nb:2\\n' | millrace produce orders -k :
`,
  consume: `Usage: millrace consume TOPIC [options]

Prints records as they come, until it is interrupted, COUNT is reached or --until is met.

      --from WHERE           earliest, latest, an OFFSET (of every partition), @MILLISECONDS
                             since 1970, or a time like 2026-11-23T12:00:00Z  [latest; in a
                             group, for what it has not read yet, earliest]
  -g, --group GROUP          as a member of a group: shares the partitions with the others, and
                             what was printed is committed
  -n, --count COUNT          end after COUNT records
      --until end            end with the records that are there now
  -f, --format FORMAT        %t topic %p partition %o offset %T timestamp %k key %v value
                             %h headers %K %V lengths, \\n \\t  [%v\\n]
  -o, --output json          one JSON object a line
${GLOBAL}
  millrace consume orders --from earliest --until end -f '%p@%o %k=%v\\n'
`,
  'group list': `Usage: millrace group list [options]

The consumer groups that have members or have committed something: state (empty, stable, or
rebalancing while partitions are on their way between members), members, topics. A pipe gets
the same columns separated by tabs.
${GLOBAL}`,
  'group describe': `Usage: millrace group describe GROUP [options]

Each partition that a group reads: the member that has it, the offset committed, the offset the
next record will have, and the lag: records behind the committed offset. On a terminal also the
members. A pipe gets the same columns separated by tabs.
${GLOBAL}
  millrace group describe billing --json | jq '[.partitions[].lag] | add'
`,
  'group reset': `Usage: millrace group reset GROUP TOPIC --to WHERE [options]

Has a group that has no members go on elsewhere in a topic, forwards or back.

      --to WHERE             earliest, latest, an OFFSET (of every partition), @MILLISECONDS
                             since 1970, or a time like 2026-11-23T12:00:00Z
  -p, --partitions LIST      only these partitions, like 0,3
${GLOBAL}
  millrace group reset billing orders --to 2026-11-23T00:00:00Z
`,
  'group delete': `Usage: millrace group delete GROUP [options]

Forgets a group that has no members, and what it has committed. Asks first on a terminal.

  -y, --yes                  do not ask; needed where there is no terminal
${GLOBAL}`,
  'cluster status': `Usage: millrace cluster status [options]

The brokers as one of them sees them: address, whether each is alive, suspect (it does not
answer, and may yet), dead, or has left (was stopped in order) and for how long, when it was
heard last, how many partitions it leads, and how busy it says it is. On a terminal also the
leader of the metadata and what is missing.
${GLOBAL}`,
  'cluster health': `Usage: millrace cluster health [options]

Says 'healthy' and ends with 0 when every partition has a leader and all its replicas, and
every broker is alive. Else it says what is wrong and ends with 8; with 6 when no
broker could be asked.
${GLOBAL}
  millrace cluster health --json || page-somebody
`,
  'cluster members': `Usage: millrace cluster members [options]

Every broker the cluster ever had: address, rack, state, whether it is alive, suspect, dead or
has left and for how long, whether it decides on the metadata, the partitions it is to keep,
those it leads, and those on their way to it or away from it. A pipe gets the same columns
separated by tabs.
${GLOBAL}`,
  'broker drain': `Usage: millrace broker drain NODE [options]

Nothing new comes to the broker, and everything it keeps goes to others, while producers and
consumers go on. 'millrace cluster members' and 'millrace partition moves' show how far it is.

      --wait                 end when nothing is left on it
      --undo                 make it like any other again; what has gone stays where it is
${GLOBAL}
  millrace broker drain 3 --wait && millrace broker remove 3
`,
  'broker remove': `Usage: millrace broker remove NODE [options]

Takes a broker that was drained out of the cluster, for good: all others refuse it from then
on. Its machine can come back as a new broker, with an empty directory.

      --force                also when partitions have not left it yet: for one that is dead
${GLOBAL}`,
  'partition move': `Usage: millrace partition move TOPIC PARTITION --to NODES [options]

Has a partition kept by these brokers; the first should lead it. New ones get all its records
first, then everything changes over at once.

      --to NODES             such as 1,2,3
      --cancel               instead of --to: it stays with those who have it now
      --wait                 end when it has arrived
${GLOBAL}
  millrace partition move orders 0 --to 2,3,4 --wait
`,
  'partition moves': `Usage: millrace partition moves [options]

Partitions on their way: who is to keep each, who does now, who is getting it, and by how many
batches the slowest of them is behind. A pipe gets the same columns separated by tabs.
${GLOBAL}`,
  version: `Usage: millrace version [options]

The version of this program, of the protocol it speaks and of Node.js.
${GLOBAL}`,
}

export function helpPage(name: CommandName | null): string {
  return name === null ? OVERVIEW : PAGES[name]
}
