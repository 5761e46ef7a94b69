// The scheduler of ordinary time.
export { asyncScheduler } from 'rxjs'
