/** All broken backings. Their files have the names of the files of the cases, in src/testing/internal/rules. */
import * as Acquire from "./acquire.ts"
import * as Border from "./border.ts"
import type { Broken } from "./broken.ts"
import * as Concurrency from "./concurrency.ts"
import * as Expiry from "./expiry.ts"
import * as Grants from "./grants.ts"
import * as Late from "./late.ts"
import * as Line from "./line.ts"
import * as Looks from "./looks.ts"
import * as Names from "./names.ts"
import * as Notifications from "./notifications.ts"
import * as Operators from "./operators.ts"
import * as Refresh from "./refresh.ts"
import * as Release from "./release.ts"
import * as Repetition from "./repetition.ts"
import * as Tokens from "./tokens.ts"

export const brokenBackings: ReadonlyArray<Broken> = [
  ...Acquire.backings,
  ...Border.backings,
  ...Line.backings,
  ...Grants.backings,
  ...Release.backings,
  ...Refresh.backings,
  ...Expiry.backings,
  ...Looks.backings,
  ...Operators.backings,
  ...Notifications.backings,
  ...Names.backings,
  ...Concurrency.backings,
  ...Tokens.backings,
  ...Repetition.backings,
  ...Late.backings
]
