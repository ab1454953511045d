# Makes the numbers of mixed.csv, strengths.csv and inference.csv whose source is R. Run it in this folder:
#   Rscript make.R
# They were made by R 4.2.2 with lme4 1.1-31, sandwich 3.0-2, BradleyTerry2 1.1-2, qvcalc 1.0.2, PlackettLuce 0.4.2 and
# irr 0.84.1. Nothing here is needed to run the project or its tests.
options(digits = 10)
library(lme4)

show <- function(name, fit) {
  cat("\n##", name, "\n")
  print(summary(fit)$coefficients)
  print(VarCorr(fit), digits = 7)
  print(logLik(fit))
}

# VerbAgg and cbpp come with lme4
aggression <- glmer(r2 ~ 1 + (1 | id) + (1 | item), VerbAgg, family = binomial)
show("verbagg", aggression)
print(confint(aggression, parm = "(Intercept)", method = "profile"))
show("verbagg items", glmer(r2 ~ btype + situ + mode + (1 | id) + (1 | item), VerbAgg, family = binomial))
show("cbpp", glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, family = binomial))

# A case has two concepts, so its row of the concepts' design holds two ones. lme4 has no such term: fit a model in which the
# first concept stands for it, then exchange the term's design and optimise again.
full <- function(votes, formula) {
  parsed <- glFormula(formula, votes, family = binomial)
  levels <- sort(unique(c(votes$concept_a, votes$concept_b)))
  parsed_levels <- levels(parsed$reTrms$flist[["concept_a"]])
  stopifnot(identical(as.character(levels), parsed_levels))
  both <- sparseMatrix(
    i = c(match(votes$concept_a, levels), match(votes$concept_b, levels)), j = rep(seq_len(nrow(votes)), 2), x = 1
  )
  place <- match("concept_a", names(parsed$reTrms$cnms))
  rows <- seq(parsed$reTrms$Gp[place] + 1, parsed$reTrms$Gp[place + 1])
  parsed$reTrms$Zt[rows, ] <- both
  parsed$reTrms$Ztlist[[place]] <- both
  deviance <- do.call(mkGlmerDevfun, parsed)
  optimizeGlmer(deviance)
  deviance <- updateGlmerDevfun(deviance, parsed$reTrms)
  mkMerMod(environment(deviance), optimizeGlmer(deviance, stage = 2), parsed$reTrms, fr = parsed$fr)
}
for (name in c("dyad_small", "dyad")) {
  votes <- read.csv(paste0(name, ".csv"))
  show(paste(name, "crossed"), glmer(y ~ 1 + (1 | case) + (1 | rater), votes, family = binomial))
  show(paste(name, "full"), full(votes, y ~ 1 + (1 | case) + (1 | pair) + (1 | concept_a) + (1 | rater)))
}
small <- read.csv("dyad_small.csv")
show("dyad_small sides", full(small, y ~ pos + (1 | case) + (1 | pair) + (1 | concept_a) + (1 | rater)))

library(sandwich)
share <- lm(y ~ 1, small)
for (cluster in list(~case, ~pair, ~rater, ~ pair + rater)) cat(deparse(cluster), sqrt(vcovCL(share, cluster)), "\n")

library(BradleyTerry2)
library(qvcalc)
games <- BTm(
  cbind(home.wins, away.wins), home.team, away.team, data = baseball, id = "team", refcat = "Baltimore"
)
print(summary(games))
print(qvcalc(BTabilities(games)))
cited <- countsToBinomial(citations)
names(cited)[1:2] <- c("first", "second")
print(summary(BTm(cbind(win1, win2), first, second, data = cited)))

library(PlackettLuce)
print(head(pudding))

library(irr)
print(kappam.fleiss(diagnoses, detail = TRUE))

print(t.test(extra ~ group, sleep, paired = TRUE))
print(mcnemar.test(matrix(c(794, 86, 150, 570), 2), correct = FALSE))
print(mcnemar.test(matrix(c(794, 86, 150, 570), 2)))
print(binom.test(150, 236))
print(binom.test(682, 925, 0.75))
first <- c(1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30)
second <- c(0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29)
print(wilcox.test(first, second, paired = TRUE, conf.int = TRUE))
print(wilcox.test(first, second, paired = TRUE, alternative = "greater"))
