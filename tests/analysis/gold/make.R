# Makes the numbers of mixed.csv, strengths.csv and inference.csv whose source names R 4.2.2, prints each beside the one in its
# file, and exits with 1 where one is missing or further off than its tolerance. It also writes the tables here that come with
# R's packages: cbpp (Lesnoff et al. 2004), verbagg (De Boeck and Wilson 2004), baseball (Agresti 2002), citations (Stigler
# 1994), petersen (Petersen 2009, to five decimals) and ohio (Fitzmaurice and Laird 1993). Neither the project nor its tests
# need R. On Debian 12, in this folder:
#   apt-get install --no-install-recommends r-base-core r-cran-{lme4,sandwich,bradleyterry2,qvcalc,geepack}
#   Rscript make.R
# That is R 4.2.2, lme4 1.1-31, sandwich 3.0-2, BradleyTerry2 1.1-2, qvcalc 1.0.2 and geepack 1.3.9. Debian has no irr and no
# PlackettLuce: kappa and AC1 are made from their definitions, Davidson's model as a log-linear one.
options(digits = 10, width = 160, max.print = 1e5)
suppressMessages(for (name in c("lme4", "sandwich", "BradleyTerry2", "qvcalc", "geepack")) library(name, character.only = TRUE))

made <- numeric()
note <- function(group, values) made[paste(group, names(values))] <<- unname(values)
fixture <- function(name, table) {
  write.csv(table, paste0(name, ".csv"), row.names = FALSE, quote = FALSE)
  read.csv(paste0(name, ".csv"))
}

# ---- mixed models
# `printed` is what glmer prints with its defaults, which stop the inner search for the random effects early and difference what
# that leaves: here a log-likelihood is off by .001 and a standard error by up to .006. `converged` is the same likelihood with
# every search carried on and errors from wider steps.
# A case has two concepts, so its row of the concepts' design holds two ones. lme4 has no such term: any factor stands for it
# until the term's design is exchanged for `both`.
mixed <- function(model, formula, data, effects = "intercept", both = NULL) for (how in c("printed", "converged")) {
  printed <- how == "printed"
  control <- glmerControl(tolPwrss = if (printed) 1e-7 else 1e-12)
  parsed <- glFormula(formula, data, family = binomial, control = control)
  terms <- names(parsed$reTrms$cnms)
  if (!is.null(both)) {
    place <- match("concept", terms)
    parsed$reTrms$Zt[seq(parsed$reTrms$Gp[place] + 1, parsed$reTrms$Gp[place + 1]), ] <- both
  }
  deviance <- do.call(mkGlmerDevfun, c(parsed, list(control = control)))
  optimizeGlmer(deviance)
  deviance <- updateGlmerDevfun(deviance, parsed$reTrms)
  best <- if (printed) {
    optimizeGlmer(deviance, stage = 2, calc.derivs = TRUE)
  } else {
    optimizeGlmer(deviance, "bobyqa", stage = 2, control = list(rhobeg = 0.02, rhoend = 1e-6))
  }
  at <- best$par
  hessian <- if (printed) attr(best, "derivs")$Hessian else optimHess(at, deviance, control = list(ndeps = 0.03 + 0 * at))
  errors <- sqrt(diag(2 * solve(hessian)))[-seq_along(terms)]
  found <- c(at, errors, -best$fval / 2)
  note(paste(model, how), setNames(found, c(paste("sd", terms), effects, paste(effects, "se"), "log-likelihood")))
}
mixed("verbagg", r2 ~ 1 + (1 | id) + (1 | item), VerbAgg)
kinds <- c("intercept", "scold", "shout", "self", "do")
mixed("verbagg items", r2 ~ btype + situ + mode + (1 | id) + (1 | item), VerbAgg, kinds)
aggression <- glmer(r2 ~ 1 + (1 | id) + (1 | item), VerbAgg, family = binomial)
profile <- suppressMessages(confint(aggression, parm = "(Intercept)", method = "profile"))
note("verbagg printed", setNames(profile[1, ], c("profile low", "profile high")))
answers <- as.data.frame.matrix(xtabs((r2 == "Y") ~ id + item, VerbAgg))
invisible(fixture("verbagg", answers))

herds <- fixture("cbpp", cbpp[c("herd", "incidence", "size", "period")])
herds$period <- factor(herds$period)
periods <- c("intercept", "period 2", "period 3", "period 4")
mixed("cbpp", cbind(incidence, size - incidence) ~ period + (1 | herd), herds, periods)

for (name in c("dyad_small", "dyad")) {
  votes <- read.csv(paste0(name, ".csv"))
  concepts <- sort(unique(c(votes$c1, votes$c2)))
  votes$concept <- factor(rep_len(concepts, nrow(votes)))
  both <- Matrix::sparseMatrix(match(c(votes$c1, votes$c2), concepts), rep(seq_len(nrow(votes)), 2), x = 1)
  full <- y ~ 1 + (1 | case) + (1 | pair) + (1 | concept) + (1 | rater)
  mixed(paste(name, "crossed"), y ~ 1 + (1 | case) + (1 | rater), votes)
  mixed(paste(name, "full"), full, votes, both = both)
  if (name == "dyad_small") mixed("dyad_small sides", update(full, ~ . + pos), votes, c("intercept", "pos"), both)
}

# ---- strengths
exact <- glm.control(epsilon = 1e-14)
strengths <- function(data, fit, prefix) {
  found <- summary(fit)$coefficients
  arms <- sub(prefix, "", rownames(found), fixed = TRUE)
  note(data, setNames(c(found[, 1:2], deviance(fit)), c(arms, paste(arms, "se"), "deviance")))
}
games <- setNames(baseball, c("home", "away", "home_wins", "away_wins"))
games <- fixture("baseball", games)
teams <- levels(baseball$home.team)
at_home <- data.frame(team = factor(games$home, teams), side = 1)
guests <- data.frame(team = factor(games$away, teams), side = 0)
won <- as.matrix(games[c("home_wins", "away_wins")])
season <- BTm(won, at_home, guests, ~team, id = "team", refcat = "Baltimore", control = exact)
strengths("baseball", season, "team")
note("baseball", c("log-likelihood" = logLik(season), df = df.residual(season)))
quasi <- qvcalc(BTabilities(season))$qvframe
note("baseball", setNames(quasi$quasiSE, paste(rownames(quasi), "quasi")))
with_side <- update(season, formula = ~ team + side)
note("baseball home", coef(with_side)["side"])
worths <- exp(BTabilities(with_side)[, "ability"])
note("baseball home", setNames(worths / sum(worths), paste(names(worths), "share")))

cited <- setNames(countsToBinomial(citations), c("first", "second", "first_wins", "second_wins"))
invisible(fixture("citations", cited))
strengths("citations", BTm(cbind(first_wins, second_wins), first, second, data = cited, control = exact), "..")

# Davidson 1970 as a log-linear model: within a pair log wins = (its arm's log strength - the other's) / 2, log ties = log nu
puddings <- read.csv("puddings.csv")
rows <- nrow(puddings)
lead <- outer(puddings$first, 1:6, "==") - outer(puddings$second, 1:6, "==")
design <- list(
  votes = with(puddings, c(first_wins, second_wins, ties)), pair = factor(rep(seq_len(rows), 3)),
  lead = rbind(lead, -lead, 0 * lead)[, -1] / 2, tie = rep(c(0, 0, 1), each = rows)
)
davidson <- glm(votes ~ 0 + pair + lead + tie, poisson, design, control = exact)
equal <- glm(votes ~ 0 + pair + tie, poisson, design, control = exact)
found <- tail(summary(davidson)$coefficients, 6)
worths <- exp(c(0, found[1:5, 1]))
totals <- ave(design$votes, design$pair, FUN = sum)
note("puddings", setNames(c(worths / sum(worths), found[1:5, 2]), c(paste(1:6, "share"), paste(2:6, "se"))))
note("puddings", c(nu = exp(found[6, 1]), "log nu se" = found[6, 2], "equality df" = equal$df.residual - davidson$df.residual))
note("puddings", c("log-likelihood" = sum(design$votes * log(fitted(davidson) / totals))))
note("puddings", c("equality ratio" = deviance(equal) - deviance(davidson)))

# ---- errors of votes that recur
for (study in c("small", "full")) {
  votes <- read.csv(c(small = "dyad_small.csv", full = "dyad.csv")[study])
  share <- lm(y ~ 1, votes)
  note_study <- function(name, value) made[paste(study, name, sep = "_")] <<- value
  note_study("mean", coef(share))
  for (by in c("case", "pair", "rater")) {
    name <- if (by == "rater") "participant" else by
    note_study(name, sqrt(vcovCL(share, votes[by], type = "HC0", cadjust = FALSE)))
    note_study(paste0(name, "_cr1"), sqrt(vcovCL(share, votes[by])))
  }
  note_study("two_way", sqrt(vcovCL(share, votes[c("pair", "rater")])))
  # dyadic, by its definition: the products of all sums of pairs that share a concept
  pairs <- unique(votes[c("pair", "c1", "c2")])
  concepts <- unique(c(pairs$c1, pairs$c2))
  holds <- outer(pairs$c1, concepts, "==") + outer(pairs$c2, concepts, "==")
  sums <- tapply(resid(share), votes$pair, sum)[as.character(pairs$pair)]
  note_study("dyadic", sqrt(sum(outer(sums, sums) * (tcrossprod(holds) > 0))) / nrow(votes))
}
data(PetersenCL)
panel <- fixture("petersen", transform(PetersenCL, x = round(x, 5), y = round(y, 5)))
slope <- lm(y ~ x, panel)
for (by in list("firm", "year", c("firm", "year"))) {
  error <- sqrt(diag(vcovCL(slope, panel[by])))
  made[paste("petersen", paste(by, collapse = "_"), c("intercept", "x"), sep = "_")] <- error
}
people <- VerbAgg[order(VerbAgg$id), ]
people$yes <- as.numeric(people$r2 == "Y")
logit <- glm(yes ~ 1, binomial, people, control = exact)
made["verbagg_logit"] <- coef(logit)
made["verbagg_naive"] <- sqrt(vcov(logit))
for (by in list("id", "item", c("id", "item"))) {
  made[paste0("verbagg_by_", paste(by, collapse = "_"))] <- sqrt(vcovCL(logit, people[by]))
}
marginal <- geeglm(yes ~ 1, binomial, people, id = id, corstr = "exchangeable")
made[c("verbagg_gee", "verbagg_gee_error")] <- unlist(summary(marginal)$coefficients[1:2])
made["verbagg_gee_correlation"] <- summary(marginal)$corr[1, 1]
wheeze <- geeglm(resp ~ age * smoke, binomial, ohio, id = id, corstr = "exchangeable")
effects <- paste0("ohio_", c("intercept", "age", "smoke", "both"))
made[c(effects, paste0(effects, "_error"))] <- unlist(summary(wheeze)$coefficients[1:2])
made["ohio_correlation"] <- summary(wheeze)$corr[1, 1]
answers <- tapply(ohio$resp, ohio$id, paste, collapse = "")
invisible(fixture("ohio", as.data.frame(table(smoke = tapply(ohio$smoke, ohio$id, max), answers), responseName = "children")))

# ---- agreement, from the definitions of Fleiss (1971), Fleiss, Nee and Landis (1979) and Gwet (2008)
agreement <- function(counts) {
  raters <- sum(counts[1, ])
  p <- colSums(counts) / sum(counts)
  observed <- mean(rowSums(counts * (counts - 1))) / (raters * (raters - 1))
  guess <- sum(p * (1 - p)) / (length(p) - 1)
  error <- sqrt(2 * (sum(p * (1 - p))^2 - sum(p * (1 - p) * (1 - 2 * p)))) / sum(p * (1 - p))
  c(
    kappa = 1 - (1 - observed) / sum(p * (1 - p)), ac1 = (observed - guess) / (1 - guess),
    error = error / sqrt(nrow(counts) * raters * (raters - 1))
  )
}
diagnoses <- c(
  "00060", "03003", "01401", "00006", "03030", "20400", "00402", "20310", "20040", "00006",
  "10050", "11040", "03300", "10050", "02031", "00501", "30012", "51000", "02040", "10203",
  "00006", "01050", "02013", "20040", "10041", "05010", "40002", "02040", "10500", "00006"
)
diagnoses <- t(sapply(strsplit(diagnoses, ""), as.numeric))
found <- agreement(diagnoses)
made[c("fleiss_1971", "fleiss_1971_ac1", "fleiss_1971_null_error")] <- found
made["fleiss_1971_z"] <- found["kappa"] / found["error"]
for (one in 1:5) {
  made[paste0("fleiss_1971_category_", one)] <- agreement(cbind(diagnoses[, one], 6 - diagnoses[, one]))["kappa"]
}
without <- sapply(1:30, function(row) agreement(diagnoses[-row, ])["kappa"])
made["fleiss_1971_jackknife"] <- sqrt(29 / 30 * sum((without - mean(without))^2))
small <- read.csv("dyad_small.csv")
made[c("small_fleiss", "small_ac1")] <- agreement(table(small$case, small$y))[1:2]

# ---- tests of counts, differences and ranks
made[c("omcd_p", "omcd_low", "omcd_high")] <- c(binom.test(823, 1740)$p.value, prop.test(823, 1740, correct = FALSE)$conf.int)
tost <- function(margin) max(
  binom.test(823, 1740, 0.5 - margin, "greater")$p.value, binom.test(823, 1740, 0.5 + margin, "less")$p.value
)
made[c("omcd_tost_05", "omcd_tost_03")] <- c(tost(0.05), tost(0.03))
hours <- t.test(extra ~ group, sleep, paired = TRUE)
made[c("sleep_t", "sleep_p", "sleep_low", "sleep_high")] <- c(hours$statistic, hours$p.value, hours$conf.int)
approval <- matrix(c(794, 86, 150, 570), 2)
made["mcnemar"] <- mcnemar.test(approval, correct = FALSE)$statistic
made["mcnemar_corrected"] <- mcnemar.test(approval)$statistic
made["mcnemar_exact"] <- binom.test(150, 236)$p.value
plants <- binom.test(682, 925, 0.75)
made[c("binomial_p", "binomial_low", "binomial_high")] <- c(plants$p.value, plants$conf.int)
before <- c(1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30)
after <- c(0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29)
visits <- wilcox.test(before, after, paired = TRUE, conf.int = TRUE)
made[c("depression_p", "depression_shift")] <- c(visits$p.value, visits$estimate)
made[c("depression_low", "depression_high")] <- visits$conf.int
made["depression_greater"] <- wilcox.test(before, after, paired = TRUE, alternative = "greater")$p.value
for (arms in c(2, 3, 4, 10)) for (level in c(0.05, 0.1)) {
  made[paste("nemenyi", arms, level, sep = "_")] <- qtukey(1 - level, arms, Inf) / sqrt(2)
}
# `rounding first base` of ?friedman.test, twenty-two players (rows), three ways
rounding <- c(
  540, 550, 555, 585, 570, 575, 520, 560, 550, 555, 550, 540, 590, 585, 570, 545, 555, 560, 540, 540, 535,
  545, 550, 535, 525, 515, 500, 585, 580, 570, 525, 520, 510, 565, 555, 545, 560, 535, 545, 505, 500, 495,
  550, 550, 540, 545, 555, 550, 555, 555, 535, 545, 550, 555, 550, 545, 525, 565, 560, 540, 570, 565, 555,
  630, 630, 625
)
players <- friedman.test(matrix(rounding, 22, byrow = TRUE) / 100)
made[c("friedman", "friedman_p")] <- c(players$statistic, players$p.value)

# ---- beside the numbers in the files
golds <- do.call(rbind, lapply(c("mixed", "strengths", "inference"), function(file) {
  rows <- read.csv(paste0(file, ".csv"))
  data.frame(file, number = do.call(paste, rows[seq_len(ncol(rows) - 3)]), rows[c("value", "tolerance", "source")])
}))
others <- !grepl("R 4.2.2", golds$source, fixed = TRUE)
cat("Of other sources:", paste(golds$number[others], collapse = ", "), "\n\n")
cat("Made, but in no file:", paste(setdiff(names(made), golds$number), collapse = ", "), "\n\n")
golds <- transform(golds[!others, ], R = made[number])
golds$difference <- golds$R - golds$value
golds$held <- !is.na(golds$R) & abs(golds$difference) <= golds$tolerance
columns <- sapply(golds[c("value", "R", "difference", "tolerance")], formatC, digits = 10, format = "g")
print(data.frame(golds[c("file", "number")], columns, held = golds$held), row.names = FALSE)
cat("\n", sum(golds$held), " of ", nrow(golds), " numbers within their tolerance\n", sep = "")
quit(status = as.integer(!all(golds$held)))
