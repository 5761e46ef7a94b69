// Page views: what they are, somebody who makes them, and how they are counted.
import { json, type Mill, topic, utf8 } from '@millrace/client'
import { auditTime, map, type Observable, scan, share } from 'rxjs'

export interface View {
  readonly visitor: number
}

export const Views = topic('views', { key: utf8, value: json<View>() })
export const PAGES = ['/', '/pricing', '/docs', '/blog', '/about']

/** What the dashboard shows: the views of each page since it was started, most viewed first. */
export interface Counts {
  readonly total: number
  readonly pages: readonly { readonly page: string; readonly views: number }[]
}

/** A dashboard wants what is new: it follows from now on, counts in memory, and tells at most four times a second. */
export function countsOf(mill: Mill, everyMs = 250): Observable<Counts> {
  return mill
    .consumer()
    .subscribe(Views)
    .pipe(
      scan((views, { key }) => views.set(key ?? '', (views.get(key ?? '') ?? 0) + 1), new Map<string, number>()),
      auditTime(everyMs),
      map((views) => {
        const pages = [...views].map(([page, count]) => ({ page, views: count })).sort((a, b) => b.views - a.views)
        return { total: pages.reduce((sum, page) => sum + page.views, 0), pages }
      }),
      // One subscription for all browsers.
      share(),
    )
}

/** Makes views until it is told to stop. */
export async function visit(mill: Mill, signal: AbortSignal, perSecond = 500): Promise<void> {
  const producer = mill.producer(Views)
  for (let visitor = 0; !signal.aborted; visitor++) {
    await producer.ready()
    // Nobody awaits these: a failure would show on `producer.failures$`.
    void producer.send(PAGES[Math.floor(Math.random() ** 2 * PAGES.length)]!, { visitor })
    if (visitor % 10 === 9) await new Promise((resolve) => setTimeout(resolve, 10_000 / perSecond))
  }
  await producer.close()
}
