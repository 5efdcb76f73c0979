; The mean cross-entropy of a batch and its gradient in one call.
; In: logits f32[B, C], labels u8[E], rows i32[B] (which of the labels), smoothing f32[]. Out: loss f32[], gradient f32[B, C].

; One example: writes its gradient (of the mean over the batch: `share` is 1 / B), returns its loss.
; Of the target, `right` more falls on the label than the `floor` on every class.
define internal float @example(ptr noalias readonly %logits, ptr noalias %gradient, i64 %n_classes, i64 %label,
                               float %right, float %floor, float %share) #0 {
entry:
  %first = load float, ptr %logits, align 4
  br label %find_largest

find_largest:
  %i = phi i64 [ 0, %entry ], [ %next_i, %find_largest ]
  %largest = phi float [ %first, %entry ], [ %new_largest, %find_largest ]
  %logit_at = getelementptr inbounds float, ptr %logits, i64 %i
  %logit = load float, ptr %logit_at, align 4
  %is_larger = fcmp ogt float %logit, %largest
  %new_largest = select i1 %is_larger, float %logit, float %largest
  %next_i = add nuw nsw i64 %i, 1
  %i_is_last = icmp eq i64 %next_i, %n_classes
  br i1 %i_is_last, label %exponentiate, label %find_largest

exponentiate:
  %j = phi i64 [ 0, %find_largest ], [ %next_j, %exponentiate ]
  %sum = phi float [ 0.0, %find_largest ], [ %new_sum, %exponentiate ]
  %below_sum = phi float [ 0.0, %find_largest ], [ %new_below_sum, %exponentiate ]
  %raw_at = getelementptr inbounds float, ptr %logits, i64 %j
  %raw = load float, ptr %raw_at, align 4
  %below = fsub float %raw, %new_largest
  %new_below_sum = fadd float %below_sum, %below
  %power = call float @exp(float %below)
  %power_at = getelementptr inbounds float, ptr %gradient, i64 %j
  store float %power, ptr %power_at, align 4
  %new_sum = fadd float %sum, %power
  %next_j = add nuw nsw i64 %j, 1
  %j_is_last = icmp eq i64 %next_j, %n_classes
  br i1 %j_is_last, label %normalise, label %exponentiate

normalise:
  %reciprocal = fdiv float %share, %new_sum
  %floor_share = fmul float %floor, %share
  br label %each

each:
  %k = phi i64 [ 0, %normalise ], [ %next_k, %each ]
  %at = getelementptr inbounds float, ptr %gradient, i64 %k
  %exponential = load float, ptr %at, align 4
  %probability = fmul float %exponential, %reciprocal
  %without_floor = fsub float %probability, %floor_share
  store float %without_floor, ptr %at, align 4
  %next_k = add nuw nsw i64 %k, 1
  %k_is_last = icmp eq i64 %next_k, %n_classes
  br i1 %k_is_last, label %correct, label %each

correct:
  %label_at = getelementptr inbounds float, ptr %gradient, i64 %label
  %at_label = load float, ptr %label_at, align 4
  %right_share = fmul float %right, %share
  %corrected = fsub float %at_label, %right_share
  store float %corrected, ptr %label_at, align 4

  %label_logit_at = getelementptr inbounds float, ptr %logits, i64 %label
  %label_logit = load float, ptr %label_logit_at, align 4
  %log_sum = call float @log(float %new_sum)
  %label_below = fsub float %label_logit, %new_largest
  %hit = fmul float %right, %label_below
  %spread = fmul float %floor, %new_below_sum
  %without_hit = fsub float %log_sum, %hit
  %loss = fsub float %without_hit, %spread
  ret float %loss
}

define ptr @softmax_loss(ptr %frame) {
entry:
  %asks_version = call i1 @asks_version(ptr %frame)
  br i1 %asks_version, label %done, label %call

call:
  %inputs = call ptr @inputs(ptr %frame)
  %outputs = call ptr @outputs(ptr %frame)
  %logits = call ptr @data(ptr %inputs, i64 0)
  %labels = call ptr @data(ptr %inputs, i64 1)
  %rows = call ptr @data(ptr %inputs, i64 2)
  %smoothing_at = call ptr @data(ptr %inputs, i64 3)
  %smoothing = load float, ptr %smoothing_at
  %loss_at = call ptr @data(ptr %outputs, i64 0)
  %gradient = call ptr @data(ptr %outputs, i64 1)
  %n_examples = call i64 @dimension(ptr %inputs, i64 0, i64 0)
  %n_classes = call i64 @dimension(ptr %inputs, i64 0, i64 1)
  %n_classes_float = uitofp i64 %n_classes to float
  %n_examples_float = uitofp i64 %n_examples to float
  %right = fsub float 1.0, %smoothing
  %floor = fdiv float %smoothing, %n_classes_float
  %share = fdiv float 1.0, %n_examples_float
  br label %each

each:
  %i = phi i64 [ 0, %call ], [ %next, %each ]
  %sum = phi float [ 0.0, %call ], [ %new_sum, %each ]
  %row_at = getelementptr inbounds i32, ptr %rows, i64 %i
  %row = load i32, ptr %row_at, align 4
  %row_long = zext i32 %row to i64
  %label_at = getelementptr inbounds i8, ptr %labels, i64 %row_long
  %label_byte = load i8, ptr %label_at, align 1
  %label = zext i8 %label_byte to i64
  %index = mul i64 %i, %n_classes
  %logits_at = getelementptr inbounds float, ptr %logits, i64 %index
  %gradient_at = getelementptr inbounds float, ptr %gradient, i64 %index
  %loss = call float @example(ptr %logits_at, ptr %gradient_at, i64 %n_classes, i64 %label, float %right, float %floor,
                              float %share)
  %new_sum = fadd float %sum, %loss
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n_examples
  br i1 %more, label %each, label %store

store:
  %mean = fmul float %new_sum, %share
  store float %mean, ptr %loss_at
  br label %done

done:
  ret ptr null
}

attributes #0 = { noinline nounwind "prefer-vector-width"="512" }
